"""Winograd's F(2x2, 3x3) gives the results of `conv2d` of torch with 2.25 times fewer multiplications."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convbench.convs.base import library
from convbench.convs.functional import Geometry
from convbench.convs.winograd import why_not, winograd
from convbench.errors import UserError
from tests.convs.test_contract import error, gradients

# (N, C_in, H, W), C_out, padding, groups
GEOMETRIES: dict[str, tuple[tuple[int, int, int, int], int, Any, int]] = {
    "even": ((2, 3, 6, 8), 4, 1, 1),
    "odd": ((2, 3, 7, 5), 4, 1, 1),
    "no_padding": ((1, 2, 5, 6), 3, 0, 1),
    "wide_padding": ((1, 2, 3, 2), 3, 2, 1),
    "uneven_padding": ((1, 2, 3, 4), 3, (0, 3), 1),
    "one_pixel_out": ((2, 2, 3, 3), 3, 0, 1),
    "one_pixel_in": ((1, 2, 1, 1), 3, 1, 1),
    "groups_2": ((3, 4, 5, 4), 6, 1, 2),
    "depthwise": ((1, 4, 6, 5), 4, 1, 4),
    "many_channels": ((1, 96, 5, 5), 8, 1, 1),
}


def make(geometry: str) -> tuple[dict[str, Tensor], Geometry]:
    """Return input, weight and bias in float64, and the geometry."""
    torch.manual_seed(0)
    shape, out_channels, padding, groups = GEOMETRIES[geometry]
    weight = torch.randn(out_channels, shape[1] // groups, 3, 3, dtype=torch.float64)
    x, bias = torch.randn(shape, dtype=torch.float64), torch.randn(out_channels, dtype=torch.float64)
    return {"x": x, "weight": weight, "bias": bias}, Geometry.of(padding=padding, groups=groups)


def run(function: Any, tensors: dict[str, Tensor], geometry: Geometry) -> dict[str, Tensor]:
    """Return the output, and the gradients of all tensors for a fixed gradient of the output."""
    inputs = {key: value.detach().requires_grad_() for key, value in tensors.items()}
    y = function(*inputs.values(), geometry)
    return {"y": y.detach(), **gradients(y, inputs)}


def errors(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    return {key: error(got[key], wanted[key]) for key in wanted}


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)],
    ids=["float64", "float32", "bfloat16", "float16"],
)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_output_and_gradients_are_those_of_torch(geometry: str, dtype: torch.dtype, limit: float) -> None:
    tensors, arguments = make(geometry)
    got = run(winograd, {key: value.to(dtype) for key, value in tensors.items()}, arguments)
    assert {value.dtype for value in got.values()} == {dtype}
    assert {key: value for key, value in errors(got, run(library, tensors, arguments)).items() if value > limit} == {}


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_size_padding_and_groups_give_the_results_of_torch(data: st.DataObject) -> None:
    groups, c_in, c_out, images = (data.draw(st.integers(1, most)) for most in (3, 3, 3, 2))
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [max(1, 3 - 2 * p) + data.draw(st.integers(0, 6)) for p in padding]
    torch.manual_seed(data.draw(st.integers(0, 9)))
    shapes = {"x": (images, c_in * groups, *size), "weight": (c_out * groups, c_in, 3, 3), "bias": (c_out * groups,)}
    tensors = {key: torch.randn(shape, dtype=torch.float64) for key, shape in shapes.items()}
    arguments = Geometry(padding=padding, groups=groups)
    assert max(errors(run(winograd, tensors, arguments), run(library, tensors, arguments)).values()) <= 1e-10


def test_no_bias_and_channels_last_give_the_results_of_torch() -> None:
    tensors, arguments = make("groups_2")
    x = tensors["x"].to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        winograd(x, tensors["weight"], None, arguments), library(x, tensors["weight"], None, arguments)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_the_kernel_of_half_precision_is_transformed_without_losing_digits(dtype: torch.dtype) -> None:
    large = 2 / torch.finfo(dtype).eps  # large + 1 is rounded to large in this dtype
    weight = torch.zeros(1, 1, 3, 3, dtype=dtype)
    weight[0, 0, 1] = torch.tensor([large, 1, -large])
    assert torch.equal(winograd(torch.ones(1, 1, 4, 4, dtype=dtype), weight), torch.ones(1, 1, 2, 2, dtype=dtype))


@pytest.mark.parametrize("geometry", ["even", "odd", "groups_2"])
def test_results_under_bfloat16_autocast_are_finite_and_close(geometry: str) -> None:
    tensors, arguments = make(geometry)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(winograd, {key: value.float() for key, value in tensors.items()}, arguments)
    assert got["y"].dtype == torch.bfloat16
    assert {got[key].dtype for key in tensors} == {torch.float32}
    assert max(errors(got, run(library, tensors, arguments)).values()) < 0.05


@pytest.mark.parametrize("groups", [1, 2])
def test_it_has_2_25_times_fewer_multiplications(groups: int) -> None:
    x, weight = torch.empty(2, 8, 10, 12, device="meta"), torch.empty(16, 8 // groups, 3, 3, device="meta")
    flops = []
    for function in (winograd, library):
        with FlopCounterMode(display=False) as counter:
            function(x, weight, None, Geometry.of(padding=1, groups=groups))
        flops.append(counter.get_total_flops())
    assert flops[0] * 36 == flops[1] * 16 > 0


def test_second_derivatives_are_right() -> None:
    tensors = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(1, 2, 3, 4), (2, 1, 3, 3), (2,)]
    ]
    assert torch.autograd.gradgradcheck(lambda *a: winograd(*a, Geometry.of(padding=1, groups=2)), tensors)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ({"kernel_size": 1, "stride": 2}, "1x1 with stride 2"),
        ({"kernel_size": (3, 1)}, "3x1"),
        ({"kernel_size": 3, "stride": (2, 1)}, "3x3 with stride 2x1"),
        ({"kernel_size": 3, "stride": 2, "dilation": 3}, "3x3 with stride 2 and dilation 3"),
    ],
)
def test_other_kernels_strides_and_dilations_are_refused_with_their_values(
    arguments: dict[str, Any], given: str
) -> None:
    conv = nn.Conv2d(2, 2, **arguments)
    reason = why_not(conv)
    assert reason is not None
    assert reason.endswith(f" not {given}")
    with pytest.raises(UserError) as refused:
        winograd(torch.zeros(1, 2, 9, 9), conv.weight, None, Geometry.of(conv.stride, 0, conv.dilation))
    assert str(refused.value) == reason


def test_every_3x3_convolution_with_stride_and_dilation_1_is_supported() -> None:
    assert why_not(nn.Conv2d(4, 6, 3, padding=2, groups=2)) is None


def test_an_input_with_another_number_of_channels_is_refused() -> None:
    with pytest.raises(UserError, match=r"\(1, 1, 5, 5\) .*\(4, 2, 3, 3\) .*groups 1"):
        winograd(torch.zeros(1, 1, 5, 5), torch.zeros(4, 2, 3, 3))
