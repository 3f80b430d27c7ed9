"""The from-scratch functions in addition to the contract: the kernels of S4, errors, and any geometry."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench.convs.from_scratch import FromScratchConv2d, loops
from convbench.convs.functional import Geometry
from convbench.errors import UserError

FUNCTIONS = FromScratchConv2d.implementations
PAGE = Path(__file__).parents[2] / "docs" / "from_scratch.md"
KERNELS = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "edge": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_published_kernels_give_the_results_of_torch_on_each_colour(function: str, kernel: str) -> None:
    image = torch.rand(1, 3, 8, 9)
    weight = torch.tensor(KERNELS[kernel], dtype=torch.float32).expand(3, 1, 3, 3)
    ours = FUNCTIONS[function](image, weight, None, Geometry.of(padding=1, groups=3))
    torch.testing.assert_close(ours, F.conv2d(image, weight, padding=1, groups=3), rtol=1e-5, atol=1e-5)


def test_loops_refuses_large_inputs_and_lists_the_other_implementations() -> None:
    image, weight = torch.zeros(1, 3, 860, 1600), torch.zeros(3, 3, 3, 3)
    with pytest.raises(
        UserError,
        match=r"loops .*111,456,000 .*\(1, 3, 860, 1600\).* 200,000 .*"
        r"roll, shift_matmul, im2col or fft \(conv.implementation\)$",
    ):
        loops(image, weight, None, Geometry.of(padding=1))


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "loops"])
def test_second_derivatives_are_right(function: str) -> None:
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda *a: FUNCTIONS[function](*a, Geometry.of((2, 1), 1, 1, 2)), (x, weight, bias)
    )


@pytest.mark.parametrize(
    ("shape", "arguments", "facts"),
    [
        ((1, 1, 5, 5), {}, r"\(1, 1, 5, 5\) .*\(4, 2, 3, 3\) .*groups 1"),
        ((1, 4, 5, 5), {}, r"\(N, 2, H, W\)"),
        ((2, 5, 5), {}, r"\(N, 2, H, W\)"),
        ((1, 6, 5, 5), {"groups": 3}, "groups 3; .*divide .*4"),
        ((1, 2, 2, 9), {}, r"\(1, 2, 2, 9\) .*padding \(0, 0\) .*kernel \(3, 3\)"),
        ((1, 2, 4, 4), {"dilation": 3, "padding": (1, 0)}, r"kernel \(3, 3\) .*dilation \(3, 3\)"),
    ],
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_inputs_that_torch_refuses_are_refused_and_not_broadcast(
    function: str, shape: tuple[int, ...], arguments: dict[str, Any], facts: str
) -> None:
    with pytest.raises(UserError, match=facts):
        FUNCTIONS[function](torch.zeros(shape), torch.zeros(4, 2, 3, 3), None, Geometry.of(**arguments))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_empty_batch_gives_an_empty_output_and_gradients_of_zero(function: str) -> None:
    weight = torch.ones(4, 2, 3, 3, requires_grad=True)
    y = FUNCTIONS[function](torch.zeros(0, 4, 5, 6), weight, None, Geometry.of(2, 1, 1, 2))
    assert y.shape == (0, 4, 3, 3)
    y.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(4, 2, 3, 3))


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_geometry_gives_the_results_of_torch(function: str, data: st.DataObject) -> None:
    def pairs(least: int, most: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(least, most), st.integers(least, most)))

    groups = data.draw(st.integers(1, 3))
    (c_in, c_out), kernel, stride, dilation, padding, additional = (
        pairs(1, 2),
        pairs(1, 3),
        pairs(1, 4),
        pairs(1, 3),
        pairs(0, 3),
        pairs(0, 4),
    )
    axes = zip(kernel, dilation, padding, additional, strict=True)
    size = [max(1, d * (k - 1) + 1 - 2 * p) + extra for k, d, p, extra in axes]
    torch.manual_seed(data.draw(st.integers(0, 9)))
    x = torch.randn(2, c_in * groups, *size, dtype=torch.float64)
    weight, bias = torch.randn(c_out * groups, c_in, *kernel).double(), torch.randn(c_out * groups).double()
    wanted = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    got = FUNCTIONS[function](x, weight, bias, Geometry(stride, padding, dilation, groups))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_the_code_of_the_documentation_gives_the_results_of_torch() -> None:
    sketch: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, sketch)
    torch.manual_seed(0)
    x, weight = torch.randn(2, 7, 6), torch.randn(3, 2, 3, 3)
    one_channel, tile = (x[0], weight[0, 0]), (x[0, :4, :4], weight[0, 0])
    got = {name: sketch[name](x, weight) for name in ("roll", "im2col", "fft", "shift_matmul", "fused")}
    got |= {"loops": sketch["loops"](*one_channel), "winograd": sketch["winograd"](*tile)}
    got |= {"strided": sketch["strided"](x, weight, 2)}
    got |= {"transposed": sketch["transposed"](x, weight.transpose(0, 1), 2)}
    wanted = {name: F.conv2d(x, weight) for name in ("roll", "im2col", "fft", "shift_matmul", "fused")}
    wanted |= {"loops": correlate(*one_channel), "winograd": correlate(*tile)}
    wanted |= {"strided": F.conv2d(x, weight, stride=2)}
    wanted |= {"transposed": F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)}
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def correlate(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return F.conv2d(image[None, None], kernel[None, None])[0, 0]
