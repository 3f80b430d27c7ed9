"""Time, memory and operations of each implementation of each convolution in the layers of a network."""

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convbench.benchmarks.roofline import Roofline
from convbench.convs.base import Conv2dBase, one_of
from convbench.engine.device import AUTOCAST
from convbench.engine.memory import peak_memory_of
from convbench.errors import UserError
from convbench.models.resnet import ResNet
from convbench.tuning.clock import seconds, time_interleaved
from convbench.tuning.implementations import training_call

_FORMATS = {"channels_last": torch.channels_last, "channels_first": torch.contiguous_format}
DIRECTIONS = ("forward", "training")
_SECONDS = 1.0  # time limit for all rounds of one case, in seconds; slow cases get fewer rounds


@dataclass(frozen=True)
class LayerShape:
    """The shape of a convolution in a network, and the number of convolutions with this shape.

    Attributes:
        arguments: keyword arguments of `nn.Conv2d`.
        size: spatial size `(H, W)` of the input.
        count: number of convolutions of this shape in the network.
    """

    arguments: Mapping[str, Any]
    size: tuple[int, int]
    count: int

    def __str__(self) -> str:
        arguments = self.arguments
        channels = f"{arguments['in_channels']}-{arguments['out_channels']}"
        kernel, stride = "x".join(map(str, arguments["kernel_size"])), arguments["stride"][0]
        stride_suffix = f"/{stride}" if stride != 1 else ""
        return f"{channels} {kernel}{stride_suffix} {'x'.join(map(str, self.size))}"


@dataclass(frozen=True)
class Plan:
    """A measurement to make.

    Attributes:
        network, layer: name of the network, and shape of the layer.
        conv: name of the convolution.
        factory: callable that builds the convolution from the arguments of `nn.Conv2d`.
        implementation: name of the implementation; empty for a class that has only one.
        precision: `none`, `bf16` or `fp16`.
        memory_format: `channels_last` or `channels_first`.
        direction: `forward`, or `training` for forward and backward.
    """

    network: str
    layer: LayerShape
    conv: str
    factory: Callable[..., nn.Module]
    implementation: str
    precision: str
    memory_format: str
    direction: str


@dataclass(frozen=True)
class Case:
    """The result of a measurement.

    Attributes:
        network, layer, conv, implementation, precision, memory_format, direction: as in the plan.
        count: number of convolutions of this shape in the network.
        batch: number of images.
        seconds: median time, in seconds.
        spread: half the interquartile range, divided by the median.
        memory: peak memory during the call, minus the memory in use before it, in bytes; None where it is unknown.
        flops: floating-point operations of the reference implementation; a backward pass counts as two forward passes.
        traffic: size of input, output and parameters, each counted once a pass, in bytes.
        share: share of the roofline: the least time for these operations and bytes, divided by the measured time.
    """

    network: str
    layer: str
    conv: str
    implementation: str
    precision: str
    memory_format: str
    direction: str
    count: int
    batch: int
    seconds: float
    spread: float
    memory: int | None
    flops: int
    traffic: int
    share: float


def shapes(network: str) -> list[LayerShape]:
    """The distinct convolution shapes of a network.

    Args:
        network: `resnet14`, `resnet20`, `resnet18` or another depth, for inputs of 32 x 32 pixels; or `image`, one 3x3
            convolution of an image of 860 x 1600 pixels ("Unboxing the blackbox: convolutions", S4).

    Raises:
        UserError: There is no such network.
    """
    if network == "image":
        return [_shape(nn.Conv2d(3, 3, 3, padding=1, bias=False, device="meta"), (860, 1600), 1)]
    if not network.removeprefix("resnet").isdigit():
        raise UserError(
            f"there is no network {network!r}: choose resnet with a depth, such as resnet14 or resnet18, or image "
            "(layers.networks)"
        )
    with torch.device("meta"):
        resnet = ResNet(int(network.removeprefix("resnet")), 10)
    found: dict[str, LayerShape] = {}

    def record_shape(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        size = (inputs[0].shape[2], inputs[0].shape[3])
        key = f"{conv!r} {size}"
        found[key] = _shape(conv, size, found[key].count + 1 if key in found else 1)

    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(record_shape)
    resnet(torch.empty(1, 3, 32, 32, device="meta"))
    return list(found.values())


def _shape(conv: nn.Conv2d, size: tuple[int, int], count: int) -> LayerShape:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return LayerShape({name: getattr(conv, name) for name in names} | {"bias": conv.bias is not None}, size, count)


def plans(
    convs: Mapping[str, Callable[..., nn.Module]],
    networks: Sequence[str],
    precisions: Sequence[str],
    formats: Sequence[str],
    device: torch.device,
) -> list[Plan]:
    """All measurements to make.

    Layers that a convolution does not support, and implementations for another device, are left out.

    Args:
        convs: factory of each convolution, by name.
        networks: names of networks, see `shapes`.
        precisions: `none`, `bf16` or `fp16`.
        formats: `channels_last` or `channels_first`.
        device: device to measure on.

    Raises:
        UserError: There is no such network, precision or memory format.
    """
    for memory_format in formats:
        if memory_format not in _FORMATS:
            raise UserError(f"there is no memory format {memory_format!r}; choose {one_of(_FORMATS)} (layers.formats)")
    for precision in precisions:
        if precision not in AUTOCAST:
            raise UserError(f"there is no precision {precision!r}; choose {one_of(AUTOCAST)} (layers.precisions)")
    found = []
    for network in networks:
        for layer, (name, factory) in itertools.product(shapes(network), convs.items()):
            choices = itertools.product(_implementations(factory, layer, device), precisions, formats, DIRECTIONS)
            found += [Plan(network, layer, name, factory, *choice) for choice in choices]
    return found


def measure(plan: Plan, batch_size: int, rounds: int, device: torch.device, roofline: Roofline) -> Case | None:
    """Measure one layer; returns None if the implementation does not support inputs of this size.

    Args:
        plan: measurement to make.
        batch_size: number of images; the network `image` always has one.
        rounds: number of repetitions, of which the median is reported; slow cases get fewer.
        device: device to measure on.
        roofline: Roofline of the device in this precision.
    """
    batch = 1 if plan.network == "image" else batch_size
    conv = plan.factory(**plan.layer.arguments)
    if isinstance(conv, Conv2dBase):
        conv.use(plan.implementation)
    memory_format = _FORMATS[plan.memory_format]
    conv = conv.to(device=device).to(memory_format=memory_format)
    channels = plan.layer.arguments["in_channels"]
    x = torch.empty(batch, channels, *plan.layer.size, device=device).contiguous(memory_format=memory_format)
    try:
        call = training_call(conv, x, plan.precision, has_gradient=plan.direction == "training")
        call()
    except UserError:
        return None
    memory = peak_memory_of(call, device)
    most_rounds = max(3, round(_SECONDS / max(seconds(call, device), 1e-6)))
    times = time_interleaved({"": call}, device, min(rounds, most_rounds))[""]
    passes = 3 if plan.direction == "training" else 1  # a backward pass has about twice the work of a forward pass
    flops, traffic = (passes * amount for amount in _flops_and_bytes(plan, batch))
    return Case(
        network=plan.network,
        layer=str(plan.layer),
        conv=plan.conv,
        implementation=plan.implementation,
        precision=plan.precision,
        memory_format=plan.memory_format,
        direction=plan.direction,
        count=plan.layer.count,
        batch=batch,
        seconds=times.median,
        spread=times.spread,
        memory=memory,
        flops=flops,
        traffic=traffic,
        share=roofline.least_seconds(flops, traffic) / times.median,
    )


def totals(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Sums over all layers of a network, a row for each implementation, fastest training first.

    Implementations that do not support all layers of the network are left out.

    Returns:
        One dictionary for each network, precision, memory format, convolution and implementation. Times are in seconds,
        `memory` is the largest peak of a layer in bytes, and `spread` and `share` are means weighted by time.
    """
    groups: dict[tuple[str, str, str, str, str], dict[str, list[Case]]] = {}
    for case in cases:
        group = (case.network, case.precision, case.memory_format, case.conv, case.implementation)
        groups.setdefault(group, {direction: [] for direction in DIRECTIONS})[case.direction].append(case)
    rows: list[dict[str, Any]] = []
    layers = {network: {case.layer for case in cases if case.network == network} for network, *_ in groups}
    for group, found in groups.items():
        training, forward = found["training"], found["forward"]
        if not len(training) == len(forward) == len(layers[group[0]]):
            continue
        time = sum(case.count * case.seconds for case in training)
        memories = [case.memory for case in training if case.memory is not None]
        rows.append(
            {
                **dict(zip(("network", "precision", "memory_format", "conv", "implementation"), group, strict=True)),
                "forward_seconds": sum(case.count * case.seconds for case in forward),
                "training_seconds": time,
                "spread": sum(case.count * case.seconds * case.spread for case in training) / time,
                "memory": max(memories, default=None),
                "flops_per_second": sum(case.count * case.flops for case in training) / time,
                "bytes_per_second": sum(case.count * case.traffic for case in training) / time,
                "share": sum(case.count * case.seconds * case.share for case in training) / time,
            }
        )
    return sorted(rows, key=lambda row: (row["network"], row["precision"], row["training_seconds"]))


def _implementations(factory: Callable[..., nn.Module], layer: LayerShape, device: torch.device) -> list[str]:
    """The implementations that support the layer on this device; `[""]` for a class that has only one."""
    try:
        conv = factory(**layer.arguments, device="meta")
    except UserError:
        return []
    if not isinstance(conv, Conv2dBase):
        return [""]
    found = []
    for implementation in conv.implementations:
        if conv.only_on.get(implementation, device.type) == device.type:
            with contextlib.suppress(UserError):
                conv.use(implementation)
                found.append(implementation)
    return found


def _flops_and_bytes(plan: Plan, batch: int) -> tuple[int, int]:
    """Operations of the reference implementation, and bytes of input, output and parameters, in one forward pass."""
    conv = plan.factory(**plan.layer.arguments, device="meta")
    if isinstance(conv, Conv2dBase):
        conv.use(conv.reference_implementation)
    x = torch.empty(batch, plan.layer.arguments["in_channels"], *plan.layer.size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        y = conv(x)
    numbers = x.numel() + y.numel() + sum(parameter.numel() for parameter in conv.parameters())
    return counter.get_total_flops(), numbers * (4 if plan.precision == "none" else 2)
