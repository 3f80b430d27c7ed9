"""Transposed convolutions from scratch give the results of `conv_transpose2d` of torch for every geometry."""

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convbench.convs import from_scratch
from convbench.convs.from_scratch_transposed import FromScratchConvTranspose2d, TransposedGeometry
from convbench.convs.functional import Geometry
from convbench.errors import UserError
from tests.convs.test_contract import error, gradients

FUNCTIONS = FromScratchConvTranspose2d.implementations
every_implementation = pytest.mark.parametrize("implementation", FUNCTIONS)

# (C_in, C_out), (height, width), batch size, arguments of nn.ConvTranspose2d; small because of the pure Python loops.
GEOMETRIES: dict[str, tuple[tuple[int, int], tuple[int, int], int, dict[str, Any]]] = {
    "plain_3x3": ((3, 4), (4, 5), 1, {"kernel_size": 3, "padding": 1}),
    "no_bias": ((4, 2), (5, 4), 1, {"kernel_size": 3, "bias": False}),
    "pointwise": ((4, 6), (3, 5), 3, {"kernel_size": 1}),
    "pointwise_stride_2": ((4, 2), (3, 4), 1, {"kernel_size": 1, "stride": 2, "output_padding": 1}),
    "doubling": ((3, 2), (3, 4), 3, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "stride_2": ((3, 2), (4, 3), 1, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    "stride_2_by_1": ((2, 4), (4, 5), 1, {"kernel_size": 3, "stride": (2, 1), "output_padding": (1, 0)}),
    "stride_3_leaves_gaps": ((2, 2), (3, 4), 1, {"kernel_size": 2, "stride": 3, "output_padding": (2, 1)}),
    "kernel_3_by_1": ((2, 3), (5, 4), 3, {"kernel_size": (3, 1), "padding": (1, 0)}),
    "kernel_2_by_5": ((2, 2), (4, 3), 1, {"kernel_size": (2, 5), "stride": (1, 3), "padding": (0, 2)}),
    "dilation_2": ((2, 3), (4, 5), 1, {"kernel_size": 3, "padding": 2, "dilation": 2}),
    "output_padding_by_dilation": ((2, 2), (3, 3), 1, {"kernel_size": 2, "dilation": 3, "output_padding": 2}),
    "dilation_and_stride": ((2, 2), (4, 3), 3, {"kernel_size": 3, "stride": (2, 3), "padding": 1, "dilation": (3, 2)}),
    "groups_2": ((4, 6), (4, 3), 3, {"kernel_size": 3, "padding": 1, "groups": 2}),
    "groups_2_stride_2": ((4, 6), (3, 4), 3, {"kernel_size": 3, "stride": 2, "groups": 2, "output_padding": (0, 1)}),
    "depthwise": ((4, 4), (3, 4), 3, {"kernel_size": 3, "stride": 2, "groups": 4, "bias": False}),
    "one_pixel_in": ((2, 2), (1, 1), 3, {"kernel_size": 3}),
    "one_pixel_out": ((2, 3), (1, 1), 1, {"kernel_size": 3, "padding": 1}),
}


def make(
    implementation: str, geometry: str, dtype: torch.dtype = torch.float64
) -> tuple[FromScratchConvTranspose2d, nn.ConvTranspose2d, Tensor]:
    """Return the convolution of convbench, that of torch with the same weights in float64, and an input."""
    (c_in, c_out), size, batch, arguments = GEOMETRIES[geometry]
    torch.manual_seed(0)
    ours = FromScratchConvTranspose2d(c_in, c_out, **arguments, implementation=implementation, dtype=dtype)
    theirs = nn.ConvTranspose2d(c_in, c_out, **arguments, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(batch, c_in, *size, dtype=dtype)


def run(conv: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the output, and the gradients of input and parameters for a fixed gradient of the output."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = conv(x)
    return {"y": y.detach(), **gradients(y, {"x": x, **dict(conv.named_parameters())})}


def errors(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    assert got.keys() == wanted.keys()
    return {key: error(got[key], wanted[key]) for key in got}


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@every_implementation
def test_output_and_gradients_are_those_of_torch(
    implementation: str, geometry: str, dtype: torch.dtype, limit: float
) -> None:
    ours, theirs, x = make(implementation, geometry, dtype)
    got = run(ours, x)
    assert got["y"].dtype == dtype
    wrong = {key: value for key, value in errors(got, run(theirs, x.double())).items() if value > limit}
    assert wrong == {}


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, tuple[Any, ...]]:
    """Draw an input, a weight, a bias, and (stride, padding, output_padding, groups, dilation)."""

    def pairs(least: int, most: int) -> tuple[int, int]:
        return draw(st.integers(least, most)), draw(st.integers(least, most))

    groups = draw(st.integers(1, 3))
    (c_in, c_out), size, kernel, stride, padding, dilation = (
        pairs(1, 2),
        pairs(1, 4),
        pairs(1, 3),
        pairs(1, 4),
        pairs(0, 3),
        pairs(1, 3),
    )
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    axes = zip(size, kernel, stride, padding, output_padding, dilation, strict=True)
    assume(all((n - 1) * s + d * (k - 1) + extra >= 2 * p for n, k, s, p, extra, d in axes))
    torch.manual_seed(draw(st.integers(0, 9)))
    x = torch.randn(draw(st.integers(1, 2)), c_in * groups, *size, dtype=torch.float64)
    weight = torch.randn(c_in * groups, c_out, *kernel, dtype=torch.float64)
    bias = torch.randn(c_out * groups, dtype=torch.float64)
    return x, weight, bias, (stride, padding, output_padding, groups, dilation)


@every_implementation
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(geometry=geometries())
def test_any_geometry_gives_the_results_of_torch(
    implementation: str, geometry: tuple[Tensor, Tensor, Tensor, tuple[Any, ...]]
) -> None:
    *tensors, arguments = geometry
    results = []
    ours = TransposedGeometry.of(*arguments)
    for function, extra in ((FUNCTIONS[implementation], [ours]), (F.conv_transpose2d, arguments)):
        inputs = {key: value.clone().requires_grad_() for key, value in zip("xwb", tensors, strict=True)}
        y = function(*inputs.values(), *extra)
        results.append({"y": y.detach(), **gradients(y, inputs)})
    assert max(errors(*results).values()) <= 1e-10


@pytest.mark.parametrize("geometry", ["plain_3x3", "stride_2", "dilation_and_stride", "groups_2"])
@every_implementation
def test_it_is_the_adjoint_of_the_convolution(implementation: str, geometry: str) -> None:
    """<conv(x), y> = <x, conv_T(y)> for the same weight, which has the shape (C_out, C_in/groups, ...) of the conv."""
    transposed, _, y = make(implementation, geometry)
    stride, padding, groups, dilation = transposed.stride, transposed.padding, transposed.groups, transposed.dilation
    geometry = TransposedGeometry(stride, padding, transposed.output_padding, groups, dilation)
    spread = FUNCTIONS[implementation](y, transposed.weight, None, geometry)
    x = torch.randn_like(spread)
    convolved = from_scratch.im2col(x, transposed.weight, None, Geometry(stride, padding, dilation, groups))
    torch.testing.assert_close((convolved * y).sum(), (x * spread).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("geometry", ["plain_3x3", "pointwise", "stride_2", "groups_2_stride_2", "depthwise"])
@every_implementation
def test_channels_last_and_contiguous_tensors_give_the_same_results(implementation: str, geometry: str) -> None:
    ours, _, x = make(implementation, geometry)
    wanted = run(ours, x)
    ours.to(memory_format=torch.channels_last)
    torch.testing.assert_close(run(ours, x.to(memory_format=torch.channels_last)), wanted)


@pytest.mark.parametrize("geometry", ["plain_3x3", "stride_2", "groups_2"])
@every_implementation
def test_results_under_bfloat16_autocast_are_finite_and_close(implementation: str, geometry: str) -> None:
    ours, theirs, x = make(implementation, geometry, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(ours, x)
    assert all(value.isfinite().all() for value in got.values())
    assert {got[key].dtype for key in got if key != "y"} == {torch.float32}
    assert max(errors(got, run(theirs, x.double())).values()) < 0.05


@every_implementation
def test_autocast_accepts_the_half_precision_output_of_a_previous_layer(implementation: str) -> None:
    ours, theirs, x = make(implementation, "groups_2", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(ours, x.bfloat16())
    assert max(errors(got, run(theirs, x.double())).values()) < 0.05


@every_implementation
def test_half_precision_weights_and_input_work_without_autocast(implementation: str) -> None:
    ours, theirs, x = make(implementation, "stride_2", torch.float32)
    got = run(ours.bfloat16(), x.bfloat16())
    assert {value.dtype for value in got.values()} == {torch.bfloat16}
    assert error(got["y"], theirs(x.double()).detach()) < 0.05


@pytest.mark.parametrize("implementation", [name for name in FUNCTIONS if name != "loops"])
def test_second_derivatives_are_right(implementation: str) -> None:
    tensors = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(1, 2, 3, 2), (2, 1, 3, 2), (2,)]
    ]
    assert torch.autograd.gradgradcheck(
        lambda *a: FUNCTIONS[implementation](*a, TransposedGeometry.of((2, 1), 1, (1, 0), 2)), tensors
    )


@every_implementation
def test_an_empty_batch_gives_an_empty_output_of_the_right_size(implementation: str) -> None:
    ours, theirs, x = make(implementation, "groups_2_stride_2")
    assert ours(x[:0]).shape == theirs(x[:0]).shape


@pytest.mark.parametrize("bias", [True, False])
def test_initial_values_are_those_of_conv_transpose2d(bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.ConvTranspose2d(4, 6, (3, 1), groups=2, bias=bias)
    torch.manual_seed(0)
    ours = FromScratchConvTranspose2d(4, 6, (3, 1), groups=2, bias=bias)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_it_and_conv_transpose2d_load_the_weights_of_each_other() -> None:
    x, theirs = torch.randn(2, 4, 6, 7), nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2)
    ours = FromScratchConvTranspose2d(4, 6, 3, 2, 1, 1, 2)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    other = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other(x), theirs(x))


def test_the_arguments_and_their_defaults_are_those_of_conv_transpose2d() -> None:
    ours = inspect.signature(FromScratchConvTranspose2d).parameters
    theirs = inspect.signature(nn.ConvTranspose2d).parameters
    assert list(ours) == [*theirs, "implementation"]
    assert {key: ours[key].default for key in theirs} == {key: theirs[key].default for key in theirs}


@pytest.mark.parametrize("output_size", [(7, 9), (8, 10), [7, 10], (3, 6, 8, 9)])
def test_the_output_size_determines_the_output_padding_as_in_torch(output_size: Any) -> None:
    torch.manual_seed(0)
    x, theirs = torch.randn(3, 4, 4, 5), nn.ConvTranspose2d(4, 6, 3, 2, 1)
    ours = FromScratchConvTranspose2d(4, 6, 3, 2, 1)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x, output_size), theirs(x, output_size))


@pytest.mark.parametrize("output_size", [(6, 9), (7, 11), (7,), (1, 7, 9)])
def test_the_error_for_an_impossible_output_size_has_the_possible_range(output_size: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\(7, 9\) .*\(8, 10\)"):
        FromScratchConvTranspose2d(4, 6, 3, 2, 1)(torch.randn(3, 4, 4, 5), output_size)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"output_padding": 1}, r"output_padding \(1, 1\) .*stride \(1, 1\) .*dilation \(1, 1\)"),
        ({"stride": (3, 2), "output_padding": (2, 2)}, r"output_padding \(2, 2\) .* stride \(3, 2\)"),
        ({"output_padding": -1}, "output_padding -1; .*at least 0"),
        ({"groups": 4}, "in_channels 4 .*out_channels 6 .*groups 4"),
        ({"padding_mode": "reflect"}, "padding_mode 'reflect'; .*zeros"),
        ({"padding": "same"}, "padding 'same'; .*whole number"),
        ({"implementation": "magic"}, "'magic'; .*loops, roll, "),
    ],
)
def test_the_constructor_refuses_impossible_arguments(arguments: dict[str, Any], facts: str) -> None:
    with pytest.raises(UserError, match=facts):
        FromScratchConvTranspose2d(4, 6, 3, **arguments)


@pytest.mark.parametrize(
    ("shape", "arguments", "facts"),
    [
        ((1, 1, 4, 4), {}, r"\(1, 1, 4, 4\) .*\(4, 2, 3, 3\) .*groups 1"),
        ((4, 4, 4), {}, r"\(N, 4, H, W\)"),
        ((1, 4, 4, 4), {"groups": 3}, "groups 3; .*divide"),
        ((1, 4, 1, 1), {"padding": 2}, r"padding \(2, 2\) .*\(1, 4, 1, 1\)"),
        ((1, 4, 4, 4), {"output_padding": 1}, r"output_padding \(1, 1\) .*stride \(1, 1\)"),
    ],
)
@every_implementation
def test_incompatible_shapes_and_arguments_are_refused(
    implementation: str, shape: tuple[int, ...], arguments: dict[str, Any], facts: str
) -> None:
    with pytest.raises(UserError, match=facts):
        FUNCTIONS[implementation](torch.zeros(shape), torch.zeros(4, 2, 3, 3), None, TransposedGeometry.of(**arguments))


def test_loops_refuses_large_inputs() -> None:
    with pytest.raises(UserError, match=r"loops .*111,456,000 .*roll, shift_matmul, im2col or fft"):
        FUNCTIONS["loops"](torch.zeros(1, 3, 860, 1600), torch.zeros(3, 3, 3, 3))


def test_the_representation_has_the_output_padding_and_the_implementation() -> None:
    conv = FromScratchConvTranspose2d(4, 6, 3, 2, output_padding=1)
    assert "stride=(2, 2), implementation=shift_matmul, output_padding=(1, 1)" in repr(conv)


@pytest.mark.usefixtures("fresh_compiler")
def test_the_compiled_graph_has_no_breaks_and_gives_the_same_results() -> None:
    ours, _, x = make("shift_matmul", "groups_2_stride_2", torch.float32)
    wanted = run(ours, x)
    ours.compile(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(ours, x), wanted, rtol=1e-4, atol=1e-5)
