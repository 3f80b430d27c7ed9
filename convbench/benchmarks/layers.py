"""`suite=layers`: what each implementation of each convolution costs in the layers of a network."""

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
from convbench.tuning.clock import in_turns, seconds
from convbench.tuning.implementations import training_call

_FORMATS = {"channels_last": torch.channels_last, "channels_first": torch.contiguous_format}
DIRECTIONS = ("forward", "training")
_SECONDS = 1.0  # for the rounds of one case; a slow one gets fewer


@dataclass(frozen=True)
class LayerShape:
    """A convolution of a network, as `nn.Conv2d` knows it, and how often the network has it.

    Attributes:
        arguments: of `nn.Conv2d`.
        size: `(H, W)` of the input.
        count: times that the network has it.
    """

    arguments: Mapping[str, Any]
    size: tuple[int, int]
    count: int

    def __str__(self) -> str:
        of = self.arguments
        kernel, stride = "x".join(map(str, of["kernel_size"])), of["stride"][0]
        striding = f"/{stride}" if stride != 1 else ""
        return f"{of['in_channels']}-{of['out_channels']} {kernel}{striding} {'x'.join(map(str, self.size))}"


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        network, layer: where the layer is from, and which.
        conv: name of the convolution.
        factory: makes it, by `nn.Conv2d`'s arguments.
        implementation: what computes it; empty for a class without a choice.
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
    """What came of a plan.

    Attributes:
        network, layer, conv, implementation, precision, memory_format, direction: as planned.
        count: times that the network has the layer.
        batch: images.
        seconds, spread: median, and half the distance of the quartiles as a share of it.
        memory: bytes at the peak beyond what is there before and after, or None where that cannot be told.
        flops, traffic: operations of the method, and bytes of its input, output and parameters, each once a pass.
        share: of the ceiling: the least time for these operations and bytes over the measured time.
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
    """The distinct convolutions of `resnet14`, `resnet20`, `resnet18` (32 x 32 pixels), or of the `image` of S4.

    Raises:
        UserError: for another name.
    """
    if network == "image":  # (1, 3, 860, 1600), "Unboxing the blackbox: convolutions"
        return [_shape(nn.Conv2d(3, 3, 3, padding=1, bias=False, device="meta"), (860, 1600), 1)]
    if not network.removeprefix("resnet").isdigit():
        raise UserError(f"there are no layers of {network!r}; choose resnet14, resnet20, resnet18 or image (networks)")
    with torch.device("meta"):
        plain = ResNet(int(network.removeprefix("resnet")), 10)
    found: dict[str, LayerShape] = {}

    def note(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        size = (inputs[0].shape[2], inputs[0].shape[3])
        key = f"{conv!r} {size}"
        found[key] = _shape(conv, size, found[key].count + 1 if key in found else 1)

    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    plain(torch.empty(1, 3, 32, 32, device="meta"))
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
    """Everything that there is to measure: what a convolution refuses, or is written for another device, is left out.

    Raises:
        UserError: for a name that does not exist.
    """
    for memory_format in formats:
        if memory_format not in _FORMATS:
            raise UserError(f"there is no memory format {memory_format!r}; choose {one_of(_FORMATS)} (formats)")
    for precision in precisions:
        if precision not in AUTOCAST:
            raise UserError(f"there is no precision {precision!r}; choose {one_of(AUTOCAST)} (precisions)")
    found = []
    for network in networks:
        for layer, (name, factory) in itertools.product(shapes(network), convs.items()):
            rest = itertools.product(_implementations(factory, layer, device), precisions, formats, DIRECTIONS)
            found += [Plan(network, layer, name, factory, *choice) for choice in rest]
    return found


def measure(plan: Plan, batch_size: int, rounds: int, device: torch.device, ceiling: Roofline) -> Case | None:
    """Time one layer; None if the implementation refuses an input of this size.

    Args:
        plan: what to time.
        batch_size: images; of the network `image` always one.
        rounds: measurements, of which the median counts; fewer where one takes long.
        device: where.
        ceiling: what the device can do in this precision.
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
    affordable = max(3, round(_SECONDS / max(seconds(call, device), 1e-6)))
    times = in_turns({"": call}, device, min(rounds, affordable))[""]
    passes = 3 if plan.direction == "training" else 1  # backward does about twice the work
    flops, traffic = (passes * amount for amount in _work(plan, batch))
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
        share=ceiling.least_seconds(flops, traffic) / times.median,
    )


def totals(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Add up the layers of a network: a row for each way to compute it, the fastest training first.

    A way that refuses one of the layers is left out: it cannot compute the network by itself.
    """
    ways: dict[tuple[str, str, str, str, str], dict[str, list[Case]]] = {}
    for case in cases:
        way = (case.network, case.precision, case.memory_format, case.conv, case.implementation)
        ways.setdefault(way, {direction: [] for direction in DIRECTIONS})[case.direction].append(case)
    rows: list[dict[str, Any]] = []
    layers = {network: {case.layer for case in cases if case.network == network} for network, *_ in ways}
    for way, found in ways.items():
        training, forward = found["training"], found["forward"]
        if not len(training) == len(forward) == len(layers[way[0]]):
            continue
        time = sum(case.count * case.seconds for case in training)
        memories = [case.memory for case in training if case.memory is not None]
        rows.append(
            {
                **dict(zip(("network", "precision", "memory_format", "conv", "implementation"), way, strict=True)),
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
    """What takes the layer; empty names stand for a class without a choice."""
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


def _work(plan: Plan, batch: int) -> tuple[int, int]:
    """Operations of the method, and bytes of input, output and parameters, of one forward pass."""
    conv = plan.factory(**plan.layer.arguments, device="meta")
    if isinstance(conv, Conv2dBase):
        conv.use(conv.reference_implementation)
    x = torch.empty(batch, plan.layer.arguments["in_channels"], *plan.layer.size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        y = conv(x)
    numbers = x.numel() + y.numel() + sum(parameter.numel() for parameter in conv.parameters())
    return counter.get_total_flops(), numbers * (4 if plan.precision == "none" else 2)
