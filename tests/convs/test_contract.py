"""The contract of every conv: what `nn.Conv2d`'s constructor promises, in every implementation."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convbench.convs.base import Conv2dBase
from convbench.convs.factory import GEOMETRY
from tests.convs import references
from tests.convs.catalogue import CASES, CLASSES, YAMLS

# (C_in, C_out), size, batch, and nn.Conv2d's own arguments; tiny, so that the pure Python loops can follow.
GEOMETRIES: dict[str, tuple[tuple[int, int], tuple[int, int], int, dict[str, Any]]] = {
    "plain_3x3": ((3, 4), (4, 5), 1, {"kernel_size": 3, "padding": 1}),
    "no_bias": ((4, 2), (5, 5), 1, {"kernel_size": 3, "padding": 1, "bias": False}),
    "pointwise": ((4, 6), (3, 5), 3, {"kernel_size": 1}),
    "pointwise_stride_2": ((4, 6), (5, 4), 3, {"kernel_size": 1, "stride": 2}),
    "no_padding": ((2, 3), (6, 5), 1, {"kernel_size": 3}),
    "wide_padding": ((2, 3), (3, 4), 1, {"kernel_size": 3, "padding": 2}),
    "stride_2_odd_size": ((4, 4), (7, 5), 3, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "stride_2_even_size": ((3, 4), (6, 8), 1, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "stride_2_by_1": ((2, 4), (7, 5), 1, {"kernel_size": 3, "stride": (2, 1), "padding": 1}),
    "stride_3_leaves_pixels": ((2, 2), (9, 8), 1, {"kernel_size": 2, "stride": 3}),
    "kernel_5": ((2, 2), (6, 5), 1, {"kernel_size": 5, "padding": 2}),
    "kernel_3_by_1": ((2, 3), (5, 4), 3, {"kernel_size": (3, 1), "padding": (1, 0)}),
    "dilation_2": ((2, 3), (7, 6), 1, {"kernel_size": 3, "padding": 2, "dilation": 2}),
    "dilation_and_stride": ((2, 2), (9, 8), 3, {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": (2, 1)}),
    "dilation_3_stride_2": ((2, 2), (9, 9), 1, {"kernel_size": 3, "stride": (2, 3), "padding": 1, "dilation": 3}),
    "groups_2": ((4, 6), (5, 4), 3, {"kernel_size": 3, "padding": 1, "groups": 2}),
    "groups_2_stride_2": ((4, 6), (5, 7), 3, {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2, "dilation": 2}),
    "depthwise": ((4, 4), (5, 4), 3, {"kernel_size": 3, "padding": 1, "groups": 4}),
    "depthwise_multiplier_2": ((3, 6), (4, 5), 1, {"kernel_size": 3, "padding": 1, "groups": 3, "bias": False}),
    "same": ((2, 3), (5, 4), 3, {"kernel_size": 3, "padding": "same", "dilation": 2}),
    "same_even_kernel": ((2, 3), (5, 4), 1, {"kernel_size": (4, 2), "padding": "same"}),
    "valid": ((2, 3), (5, 4), 1, {"kernel_size": 3, "padding": "valid"}),
    "reflect": ((2, 3), (5, 4), 3, {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"}),
    "replicate": ((2, 3), (5, 4), 1, {"kernel_size": 3, "padding": 1, "padding_mode": "replicate", "stride": 2}),
    "circular": ((4, 4), (5, 4), 1, {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "groups": 2}),
    "circular_same_even": ((2, 2), (5, 4), 1, {"kernel_size": 2, "padding": "same", "padding_mode": "circular"}),
    "one_output_pixel": ((2, 2), (3, 3), 3, {"kernel_size": 3}),
}
every_implementation = pytest.mark.parametrize(("name", "implementation"), CASES)


def make(name: str, implementation: str, geometry: str, dtype: torch.dtype) -> tuple[Conv2dBase, Tensor]:
    (c_in, c_out), size, batch, arguments = GEOMETRIES[geometry]
    torch.manual_seed(0)
    conv = CLASSES[name](c_in, c_out, **arguments, implementation=implementation, dtype=dtype)
    return conv, torch.randn(batch, c_in, *size, dtype=dtype)


def run(conv: Conv2dBase, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradients of input and parameters for one fixed, uneven gradient of the output."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = conv(x)
    return y.detach(), gradients(y, {"x": x, **dict(conv.named_parameters())})


def gradients(y: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return dict(zip(inputs, torch.autograd.grad(y, list(inputs.values()), weights), strict=True))


def formula(conv: Conv2dBase, x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Compute a conv by its formula in references, or where it has none by the implementation that defines it."""
    if hasattr(references, conv.name):
        return getattr(references, conv.name)(conv, x, values)
    twin = copy.deepcopy(conv).double()
    twin.use(twin.counted_as)
    return torch.func.functional_call(twin, values, (x,))


def reference(conv: Conv2dBase, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    values = {key: value.detach().double() for key, value in conv.state_dict().items()}
    parameters = {key: values[key].requires_grad_() for key, _ in conv.named_parameters()}
    x = x.detach().double().requires_grad_()
    y = formula(conv, x, values)
    return y.detach(), gradients(y, {"x": x, **parameters})


def error(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest wanted value."""
    assert got.shape == wanted.shape
    return ((got.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)).item()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own, in the reference
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@every_implementation
def test_output_and_gradients_equal_the_plain_formula(
    name: str, implementation: str, geometry: str, dtype: torch.dtype, limit: float
) -> None:
    conv, x = make(name, implementation, geometry, dtype)
    y, grads = run(conv, x)
    wanted, wanted_grads = reference(conv, x)
    assert y.dtype == dtype
    assert error(y, wanted) <= limit
    assert {
        key: error(grads[key], wanted_grads[key]) for key in grads if error(grads[key], wanted_grads[key]) > limit
    } == {}


@every_implementation
def test_state_dict_moves_between_implementations_with_equal_outputs(name: str, implementation: str) -> None:
    first, x = make(name, CLASSES[name].counted_as, "plain_3x3", torch.float64)
    second = CLASSES[name](3, 4, 3, padding=1, implementation=implementation, dtype=torch.float64)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(x), first(x), rtol=1e-10, atol=1e-12)
    first.use(implementation)
    assert first.implementation == implementation
    assert torch.equal(second(x), first(x))


@pytest.mark.parametrize(
    "geometry", ["plain_3x3", "pointwise", "stride_2_odd_size", "groups_2", "depthwise", "reflect"]
)
@every_implementation
def test_channels_last_gives_what_contiguous_gives(name: str, implementation: str, geometry: str) -> None:
    conv, x = make(name, implementation, geometry, torch.float64)
    y, grads = run(conv, x)
    conv.to(memory_format=torch.channels_last)
    y_last, grads_last = run(conv, x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y_last, y)
    torch.testing.assert_close(grads_last, grads)


@pytest.mark.parametrize("geometry", ["plain_3x3", "stride_2_odd_size", "groups_2", "reflect"])
@every_implementation
def test_bfloat16_autocast_is_finite_and_close(name: str, implementation: str, geometry: str) -> None:
    conv, x = make(name, implementation, geometry, torch.float32)
    wanted, wanted_grads = reference(conv, x)
    with torch.autocast("cpu", torch.bfloat16):
        y, grads = run(conv, x)
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in grads.values())
    assert error(y, wanted) < 0.05
    assert max(error(grads[key], wanted_grads[key]) for key in grads) < 0.1


@every_implementation
def test_autocast_takes_the_half_precision_output_of_the_layer_before(name: str, implementation: str) -> None:
    conv, x = make(name, implementation, "groups_2", torch.float32)
    wanted, _ = reference(conv, x)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = run(conv, x.bfloat16())
    assert error(y, wanted) < 0.05


@every_implementation
def test_half_precision_weights_and_input_work_without_autocast(name: str, implementation: str) -> None:
    conv, x = make(name, implementation, "plain_3x3", torch.float32)
    wanted, _ = reference(conv, x)
    y, _ = run(conv.bfloat16(), x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert error(y, wanted) < 0.1


@every_implementation
def test_the_same_input_gives_the_same_bits(name: str, implementation: str) -> None:
    conv, x = make(name, implementation, "groups_2", torch.float32)
    (y, grads), (y_again, grads_again) = run(conv, x), run(conv, x)
    assert torch.equal(y, y_again)
    assert all(torch.equal(grads[key], grads_again[key]) for key in grads)


@pytest.mark.parametrize("name", CLASSES)
def test_multiplications_can_be_counted_on_meta_tensors(name: str) -> None:
    conv = CLASSES[name](8, 16, 3, padding=1, groups=2, device="meta", implementation=CLASSES[name].counted_as)
    with FlopCounterMode(display=False) as counter:
        conv(torch.empty(2, 8, 10, 12, device="meta"))
    pixels, dense = 2 * 10 * 12, 16 * 8 // 2 * 9
    known = {
        "standard": pixels * dense,
        "from_scratch": pixels * dense,
        "weighted_sum": pixels * (16 * 8 // 2 + 16 * 9),
        "dynamic": pixels * dense + 2 * (8 * 3 + 3 * 4) + 2 * 4 * (dense + 16),  # conv, attention, mixing
    }
    assert counter.get_total_flops() / 2 == known.get(name, counter.get_total_flops() / 2) > 0


@pytest.mark.parametrize("name", CLASSES)
def test_the_geometry_arguments_are_those_of_conv2d(name: str) -> None:
    ours, theirs = inspect.signature(CLASSES[name]).parameters, inspect.signature(nn.Conv2d).parameters
    assert list(ours)[: len(GEOMETRY)] == list(theirs)
    assert {key: ours[key].default for key in GEOMETRY} == {key: theirs[key].default for key in GEOMETRY}


@pytest.mark.parametrize("name", CLASSES)
def test_the_yaml_holds_the_own_arguments_and_their_defaults(name: str) -> None:
    parameters = inspect.signature(CLASSES[name]).parameters
    own = {key: parameter.default for key, parameter in parameters.items() if key not in GEOMETRY}
    shared = {"_target_", "skip", "bias", "groups"}
    assert {key: value for key, value in YAMLS[name].items() if key not in shared} == own
    assert shared <= set(YAMLS[name])
    assert CLASSES[name].name == name


@pytest.mark.parametrize("name", CLASSES)
def test_it_compiles_as_one_graph_and_keeps_its_results(name: str) -> None:
    conv, x = make(name, YAMLS[name]["implementation"], "groups_2", torch.float32)
    y, grads = run(conv, x)
    conv.compile(fullgraph=True, backend="aot_eager")
    compiled_y, compiled_grads = run(conv, x)
    torch.testing.assert_close(compiled_y, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled_grads, grads, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every_implementation
def test_the_default_compiler_keeps_the_results(name: str, implementation: str) -> None:
    if implementation in ("loops", "fft"):
        pytest.skip("one graph node per number, and complex numbers, are not what compilers are for")
    conv, x = make(name, implementation, "groups_2_stride_2", torch.float32)
    y, grads = run(conv, x)
    conv.compile(fullgraph=True)
    compiled_y, compiled_grads = run(conv, x)
    torch.testing.assert_close(compiled_y, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled_grads, grads, rtol=1e-4, atol=1e-5)
