"""Parameters and multiply-accumulate operations of each layer, without computing anything."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: qualified, such as `layer1.0.conv1`.
        kind: class name.
        output_shape: `(C, H, W)` or `(features,)`, without the batch.
        kernel: `(K_h, K_w)`, or None for a layer without one.
        parameters: trainable numbers.
        macs: multiply-accumulate operations for one image.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    kernel: tuple[int, int] | None
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """A network layer by layer, and its totals.

    Attributes:
        layers: in the order in which an image passes them.
        parameters: trainable numbers of the whole network.
        macs: multiply-accumulate operations for one image: convolutions and matrix products; additions, norms and
            activations are not counted.
    """

    layers: tuple[Layer, ...]
    parameters: int
    macs: int


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def summarise(network: nn.Module, in_channels: int, image_size: int) -> Summary:
    """Count what a network holds and does for one `(in_channels, image_size, image_size)` image.

    A convolution with several implementations is counted as the method defines it, whichever implementation runs: its
    figure says what the idea costs, and speed is measured elsewhere.
    """
    # On the meta device a forward pass knows shapes and nothing else: a 224-pixel ResNet takes milliseconds.
    ghost = copy.deepcopy(network).to("meta").eval()
    for module in ghost.modules():
        counted_as = getattr(module, "counted_as", None)
        if counted_as is not None:
            cast(Any, module).use(counted_as)
    layers: list[Layer] = []
    with FlopCounterMode(display=False) as counter, _recorded(ghost, counter, layers), torch.no_grad():
        ghost(torch.empty(1, in_channels, image_size, image_size, device="meta"))
    return Summary(tuple(layers), count_parameters(network), counter.get_total_flops() // 2)


@contextmanager
def _recorded(network: nn.Module, counter: FlopCounterMode, layers: list[Layer]) -> Iterator[None]:
    """Note every layer as a forward pass leaves it."""
    handles = []
    for name, module in _layers(network):
        before: list[int] = []

        def enter(module: nn.Module, args: Any, before: list[int] = before) -> None:
            before.append(counter.get_total_flops())

        def leave(module: nn.Module, args: Any, output: Tensor, before: list[int] = before, name: str = name) -> None:
            flops = counter.get_total_flops() - before.pop()
            kernel = getattr(module, "kernel_size", None)
            layers.append(
                Layer(
                    name=name or type(module).__name__,
                    kind=type(module).__name__,
                    output_shape=tuple(output.shape[1:]),
                    kernel=(kernel, kernel) if isinstance(kernel, int) else kernel,
                    parameters=count_parameters(module),
                    macs=flops // 2,
                )
            )

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers worth a row: a convolution (with all it is made of), or a module without children of its own."""
    children = list(module.named_children())
    if not children or hasattr(module, "kernel_size"):
        if not isinstance(module, nn.Identity):
            yield name, module
        return
    for child_name, child in children:
        yield from _layers(child, f"{name}.{child_name}" if name else child_name)
