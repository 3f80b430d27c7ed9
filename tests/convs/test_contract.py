"""The contract of every convolution and implementation: correct results for all arguments of `nn.Conv2d`.

A convolution may refuse layers. These tests find the supported layers by calling the constructor on the meta device.
"""

import copy
import inspect
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convbench.convs.base import PADDING_MODES, Conv2dBase, UnsupportedLayerError
from convbench.convs.factory import GEOMETRY
from tests.convs import formulas, references
from tests.convs.catalogue import CASES, CLASSES, YAMLS

# (C_in, C_out), (height, width), batch size, and the arguments of nn.Conv2d; small because of the pure Python loops.
GEOMETRIES: dict[str, tuple[tuple[int, int], tuple[int, int], int, dict[str, Any]]] = {
    "square_3x3": ((8, 8), (4, 5), 2, {"kernel_size": 3, "padding": 1}),
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
    "depthwise_pointwise": ((4, 4), (4, 5), 1, {"kernel_size": 1, "groups": 4}),
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

# Further values of the arguments of single convolutions, for the formulas of the number of parameters.
OTHER_ARGUMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "grouped": ({"cardinality": 8},),
    "weight_standardised": ({"scaled": False},),
    "coordconv": ({"radius": True},),
    "blueprint_s": ({"ratio": 0.5}, {"least_hidden": 12}),
    "large_kernel": ({"large_kernel": 9},),
    "ghost": ({"ratio": 3}, {"cheap_kernel": 5}),
    "partial": ({"ratio": 2},),
    "pyramidal": ({"level_groups": [1, 4, 8, 8]},),
    "dynamic": ({"num_experts": 2}, {"num_experts": 1}, {"reduction": 0.5}),
    "condconv": ({"num_experts": 8},),
    "odconv": ({"num_experts": 1}, {"least_hidden": 4, "reduction": 0.5}),
    "involution": ({"reduction": 2}, {"group_channels": 4}),
    "deformable": ({"offset_groups": 4},),
}


def takes(name: str, implementation: str, geometry: str) -> bool:
    """Return whether the convolution supports the geometry; all errors but a refusal are left to the tests."""
    (c_in, c_out), _, _, arguments = GEOMETRIES[geometry]
    try:
        CLASSES[name](c_in, c_out, **arguments, implementation=implementation, device="meta")
    except UnsupportedLayerError:
        return False
    except Exception:
        return True
    return True


def every_implementation(*geometries: str) -> pytest.MarkDecorator:
    """Run a test for every convolution, every implementation, and each of the geometries that it supports."""
    cases = [(*case, geometry) for case in CASES for geometry in geometries if takes(*case, geometry)]
    return pytest.mark.parametrize(("name", "implementation", "geometry"), cases)


def make(name: str, implementation: str, geometry: str, dtype: torch.dtype) -> tuple[Conv2dBase, Tensor]:
    (c_in, c_out), size, batch, arguments = GEOMETRIES[geometry]
    torch.manual_seed(0)
    conv = CLASSES[name](c_in, c_out, **arguments, implementation=implementation, dtype=dtype)
    return conv, torch.randn(batch, c_in, *size, dtype=dtype)


def run(conv: Conv2dBase, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output, and the gradients of input and parameters for a fixed gradient of the output."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = conv(x)
    return y.detach(), gradients(y, {"x": x, **dict(conv.named_parameters())})


def gradients(y: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return dict(zip(inputs, torch.autograd.grad(y, list(inputs.values()), weights), strict=True))


def formula(conv: Conv2dBase, x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Compute a convolution by its reference formula, or by its reference implementation if there is no formula."""
    if hasattr(references, conv.name):
        return getattr(references, conv.name)(conv, x, values)
    twin = copy.deepcopy(conv).double()
    twin.use(twin.reference_implementation)
    return torch.func.functional_call(twin, values, (x,))


def reference(conv: Conv2dBase, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    values = {key: value.detach().double() for key, value in conv.state_dict().items()}
    parameters = {key: values[key].requires_grad_() for key, _ in conv.named_parameters()}
    x = x.detach().double().requires_grad_()
    y = formula(conv, x, values)
    return y.detach(), gradients(y, {"x": x, **parameters})


def error(got: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value."""
    assert got.shape == wanted.shape
    got = got.double()
    return ((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)).item()


def error_of_all(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Return the largest difference of all gradients, relative to the largest expected value of all of them."""
    return error(*(torch.cat([grads[key].flatten() for key in wanted]) for grads in (got, wanted)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own, in the reference
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
@every_implementation(*GEOMETRIES)
def test_output_and_gradients_equal_the_plain_formula(
    name: str, implementation: str, geometry: str, dtype: torch.dtype, limit: float
) -> None:
    conv, x = make(name, implementation, geometry, dtype)
    y, grads = run(conv, x)
    wanted, wanted_grads = reference(conv, x)
    assert y.dtype == dtype
    assert error(y, wanted) <= limit
    assert error_of_all(grads, wanted_grads) <= limit
    if dtype == torch.float64:  # in float32, a gradient that is 0 by the formula consists of rounding errors
        errors = {key: error(grads[key], wanted_grads[key]) for key in grads}
        assert {key: off for key, off in errors.items() if off > limit} == {}


@every_implementation("square_3x3")
def test_state_dict_moves_between_implementations_with_equal_outputs(
    name: str, implementation: str, geometry: str
) -> None:
    first, x = make(name, CLASSES[name].reference_implementation, geometry, torch.float64)
    second = CLASSES[name](8, 8, 3, padding=1, implementation=implementation, dtype=torch.float64)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(x), first(x), rtol=1e-10, atol=1e-12)
    first.use(implementation)
    assert first.implementation == implementation
    assert torch.equal(second(x), first(x))


@every_implementation("square_3x3", "pointwise", "stride_2_odd_size", "groups_2", "depthwise", "reflect")
def test_channels_last_and_contiguous_tensors_give_the_same_results(
    name: str, implementation: str, geometry: str
) -> None:
    conv, x = make(name, implementation, geometry, torch.float64)
    y, grads = run(conv, x)
    conv.to(memory_format=torch.channels_last)
    y_last, grads_last = run(conv, x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y_last, y)
    torch.testing.assert_close(grads_last, grads)


@every_implementation("square_3x3", "stride_2_odd_size", "groups_2", "reflect")
def test_results_under_bfloat16_autocast_are_finite_and_close(name: str, implementation: str, geometry: str) -> None:
    conv, x = make(name, implementation, geometry, torch.float32)
    wanted, wanted_grads = reference(conv, x)
    with torch.autocast("cpu", torch.bfloat16):
        y, grads = run(conv, x)
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in grads.values())
    assert error(y, wanted) < 0.05
    assert max(error(grads[key], wanted_grads[key]) for key in grads) < 0.1


@every_implementation("square_3x3")
def test_autocast_accepts_the_half_precision_output_of_a_previous_layer(
    name: str, implementation: str, geometry: str
) -> None:
    conv, x = make(name, implementation, geometry, torch.float32)
    wanted, _ = reference(conv, x)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = run(conv, x.bfloat16())
    assert error(y, wanted) < 0.05


@every_implementation("square_3x3")
def test_half_precision_weights_and_input_work_without_autocast(name: str, implementation: str, geometry: str) -> None:
    conv, x = make(name, implementation, geometry, torch.float32)
    wanted, _ = reference(conv, x)
    y, _ = run(conv.bfloat16(), x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert error(y, wanted) < 0.1


@every_implementation("square_3x3")
def test_results_are_reproducible_bit_by_bit(name: str, implementation: str, geometry: str) -> None:
    conv, x = make(name, implementation, geometry, torch.float32)
    (y, grads), (y_again, grads_again) = run(conv, x), run(conv, x)
    assert torch.equal(y, y_again)
    assert all(torch.equal(grads[key], grads_again[key]) for key in grads)


def own_arguments(name: str) -> dict[str, Any]:
    """The arguments of the convolution itself, as the yaml has them."""
    shared = ("_target_", "implementation", "skip", "unsupported", "bias", "groups")
    return {key: value for key, value in YAMLS[name].items() if key not in shared}


@pytest.mark.parametrize("name", formulas.PARAMETERS)
def test_the_number_of_parameters_is_that_of_the_formula(name: str) -> None:
    supported = 0
    for c_in, c_out, k, groups in ((16, 32, 3, 1), (32, 32, 5, 1), (16, 16, 1, 1), (16, 32, 3, 2), (16, 16, 3, 16)):
        for changed in ({}, *OTHER_ARGUMENTS.get(name, ())):
            own = own_arguments(name) | changed
            try:
                conv = CLASSES[name](c_in, c_out, k, padding=k // 2, groups=groups, device="meta", **own)
            except UnsupportedLayerError:
                continue
            supported += 1
            counted = sum(parameter.numel() for parameter in conv.parameters())
            assert counted == formulas.PARAMETERS[name](c_in, c_out, k, groups, **own), (c_in, c_out, k, groups, own)
    assert supported > len(OTHER_ARGUMENTS.get(name, ()))


@pytest.mark.parametrize("name", CLASSES)
def test_products_are_counted_on_meta_tensors(name: str) -> None:
    c_out = 16 if name == "involution" else 32
    conv = CLASSES[name](16, c_out, 3, padding=1, device="meta", implementation=CLASSES[name].reference_implementation)
    with FlopCounterMode(display=False) as counter:
        conv(torch.empty(2, 16, 10, 12, device="meta"))
    assert counter.get_total_flops() > 0
    if name in formulas.PARAMETERS:
        products = 2 * formulas.products(name, 10 * 12, 16, c_out, 3, 1, **own_arguments(name))
        assert counter.get_total_flops() == 2 * products  # a product and a sum


@pytest.mark.parametrize("name", CLASSES)
def test_outputs_are_proportional_to_the_parameters_in_outputs_scale_with(name: str) -> None:
    conv, x = make(name, CLASSES[name].reference_implementation, "square_3x3", torch.float64)
    if not conv.outputs_scale_with:
        pytest.skip(f"outputs_scale_with of {name} is empty")
    nn.init.zeros_(conv.bias)
    y = conv(x)
    scaled = [value for key, value in conv.named_parameters() if key.partition(".")[0] in conv.outputs_scale_with]
    for parameter in scaled:
        parameter.data *= 3
    assert y.abs().max() > 0
    torch.testing.assert_close(conv(x), 3 * y)


@pytest.mark.parametrize("name", CLASSES)
def test_the_geometry_arguments_are_those_of_conv2d(name: str) -> None:
    ours, theirs = inspect.signature(CLASSES[name]).parameters, inspect.signature(nn.Conv2d).parameters
    assert list(ours)[: len(GEOMETRY)] == list(theirs)
    assert {key: ours[key].default for key in GEOMETRY} == {key: theirs[key].default for key in GEOMETRY}


@pytest.mark.parametrize("name", CLASSES)
def test_the_yaml_has_the_arguments_of_the_class_and_their_defaults(name: str) -> None:
    parameters = inspect.signature(CLASSES[name]).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items() if key not in GEOMETRY}
    own = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    shared = {"_target_", "skip", "unsupported", "bias", "groups"}
    assert {key: value for key, value in YAMLS[name].items() if key not in shared} == own
    assert shared <= set(YAMLS[name])
    assert CLASSES[name].name == name


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", CLASSES)
def test_the_compiled_graph_has_no_breaks_and_gives_the_same_results(name: str) -> None:
    conv, x = make(name, YAMLS[name]["implementation"], "square_3x3", torch.float32)
    y, grads = run(conv, x)
    conv.compile(fullgraph=True, backend="aot_eager")
    compiled_y, compiled_grads = run(conv, x)
    torch.testing.assert_close(compiled_y, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled_grads, grads, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
@every_implementation("square_3x3", "groups_2_stride_2")
def test_the_default_compiler_gives_the_same_results(name: str, implementation: str, geometry: str) -> None:
    if implementation in ("loops", "fft"):
        pytest.skip("the graph of loops is too large, and the compiler does not support complex numbers")
    conv, x = make(name, implementation, geometry, torch.float32)
    y, grads = run(conv, x)
    conv.compile(fullgraph=True)
    compiled_y, compiled_grads = run(conv, x)
    torch.testing.assert_close(compiled_y, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled_grads, grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "implementation"), CASES)
def test_every_implementation_supports_a_plain_layer(name: str, implementation: str) -> None:
    assert any(takes(name, implementation, geometry) for geometry in ("square_3x3", "plain_3x3"))


@pytest.mark.parametrize("name", CLASSES)
def test_the_yaml_skips_unsupported_layers_only_if_there_are_any(name: str) -> None:
    refused = [geometry for geometry in GEOMETRIES if not takes(name, CLASSES[name].reference_implementation, geometry)]
    assert YAMLS[name]["unsupported"] == ("skip" if refused else "error"), refused


@st.composite
def layers(draw: st.DrawFn) -> tuple[int, int, tuple[int, int], int, dict[str, Any]]:
    """Draw a layer, mostly a typical one: C_in, C_out, input size, batch size, and arguments of nn.Conv2d."""
    kernel = draw(st.sampled_from([3, 3, 3, 1, 5, 2, (1, 3), (3, 2)]))
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    dilation = draw(st.sampled_from([1, 1, 1, 2]))
    groups = draw(st.sampled_from([1, 1, 1, 1, 2, 4]))
    c_in = draw(st.sampled_from([4, 8]) if groups > 1 else st.integers(1, 8))
    c_out = c_in if draw(st.integers(0, 2)) else groups * draw(st.integers(1, 8 // groups))
    same = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
    padding = same if draw(st.integers(0, 2)) else draw(st.sampled_from([0, 1, 2, (0, 1)]))
    smallest = max(dilation * (max(height, width) - 1) + 1, 3)
    size = (draw(st.integers(smallest, smallest + 3)), draw(st.integers(smallest, smallest + 3)))
    arguments = {
        "kernel_size": kernel,
        "stride": draw(st.sampled_from([1, 1, 1, 2, 3, (2, 1)])),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from([PADDING_MODES[0]] * 3 + list(PADDING_MODES[1:]))),
    }
    return c_in, c_out, size, draw(st.integers(1, 3)), arguments


@pytest.mark.parametrize("name", CLASSES)
def test_200_random_layers_equal_the_plain_formula(name: str) -> None:
    supported = 0

    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )
    @given(layers(), st.sampled_from(list(CLASSES[name].implementations)), st.integers(0, 2**16))
    def check(layer: Any, implementation: str, seed: int) -> None:
        nonlocal supported
        c_in, c_out, size, batch, arguments = layer
        torch.manual_seed(seed)
        try:
            conv = CLASSES[name](c_in, c_out, **arguments, implementation=implementation, dtype=torch.float64)
        except UnsupportedLayerError:
            assume(False)
        largest = max(conv._explicit_padding or [0])
        assume(arguments["padding_mode"] in ("zeros", "replicate") or largest < min(size))  # a condition of F.pad
        supported += 1
        x = torch.randn(batch, c_in, *size, dtype=torch.float64)
        for dtype, limit in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
            conv, x = conv.to(dtype), x.to(dtype)  # the reference gets the rounded values, too
            (y, grads), (wanted, wanted_grads) = run(conv, x), reference(conv, x)
            assert error(y, wanted) <= limit
            assert error_of_all(grads, wanted_grads) <= limit

    check()
    assert supported >= 200
