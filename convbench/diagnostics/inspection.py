"""Inspection of a network: the kernels of its first layer, its feature maps and its routing weights.

The functions do not change parameters, running statistics, gradients or the training mode, and draw no random numbers.
They call `network.forward`, which is not compiled: a compiled network would ignore the forward hooks or be recompiled.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.engine.device import autocast
from convbench.engine.scoring import evaluating

MAPS = 32  # maximum number of feature maps of a layer
SIDE = 4  # minimum height and width of a feature map, in pixels

_GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Routing:
    """Statistics of the routing weights of a per-image convolution with K experts.

    Attributes:
        entropy: Entropy of the normalised routing weights divided by log(K), averaged over the images: 0 if each image
            uses one kernel, 1 if each uses all kernels equally.
        top_shares: For each kernel, the fraction of images for which it has the largest routing weight.
        similarity: Mean cosine similarity between two kernels; 1 if all kernels are equal.
    """

    entropy: float
    top_shares: tuple[float, ...]
    similarity: float


def first_kernels(network: nn.Module) -> Tensor | None:
    """The kernels of the first convolution of a network.

    Returns:
        For a per-image convolution, the kernels of its K experts, `(C_out * K, C_in/groups, K_h, K_w)`, where the K
        kernels of an output channel are adjacent. For any other convolution, the equivalent dense kernels,
        `(C_out, C_in, K_h, K_w)`. None if there is no convolution, it is not linear, or its experts have another form.
    """
    conv = next((conv for _, conv in _convs(network)), None)
    if conv is None:
        return None
    if _is_routed(conv):
        return _expert_kernels(conv)
    with evaluating(network):
        return dense_kernels(conv)


def dense_kernels(conv: Any) -> Tensor | None:
    """Compute the dense kernels of a linear convolution from its responses to unit impulses.

    One output pixel, whose receptive field lies inside of the image, is read for a batch of images. Each image has a
    unit impulse at one tap of the receptive field, so that its output is the weight of this tap plus the bias. A zero
    image gives the bias, and a linear combination of the impulses tests whether the convolution is linear.

    Args:
        conv: A module in evaluation mode, with the geometry attributes of an `nn.Conv2d`.

    Returns:
        Kernels, `(C_out, C_in, K_h, K_w)`, or None if the convolution is not linear.
    """
    rows, columns = (_Axis.of(conv, axis) for axis in (0, 1))
    like = next(conv.parameters(), torch.empty(0))
    kernel = torch.Size([conv.in_channels, rows.taps, columns.taps])
    taps = kernel.numel()
    images = like.new_zeros(taps + 2, conv.in_channels, rows.size, columns.size)
    impulses = torch.eye(taps, device=like.device, dtype=like.dtype).unflatten(1, kernel)
    receptive_fields = images[:, :, rows.window, columns.window]
    receptive_fields[:taps] = impulses
    coefficients = torch.linspace(-1, 1, taps, device=like.device, dtype=like.dtype)
    receptive_fields[taps] = torch.einsum("t,tchw->chw", coefficients, impulses)
    with torch.no_grad():
        outputs = conv(images)[:, :, rows.output, columns.output].float()  # (taps + 2, C_out)
    kernels, combined = outputs[:taps] - outputs[-1], outputs[taps] - outputs[-1]
    tolerance = 1e-2 * kernels.abs().sum(0).max().item()
    if not torch.allclose(coefficients.float() @ kernels, combined, rtol=0, atol=tolerance):
        return None
    return kernels.T.unflatten(1, kernel)


@dataclass(frozen=True)
class _Axis:
    """One axis of a small image, with an output pixel whose receptive field lies inside of the image.

    Attributes:
        taps: Size of the kernel.
        output: Position of the output pixel.
        window: Pixels of its receptive field.
        size: Size of the image.
    """

    taps: int
    output: int
    window: slice
    size: int

    @classmethod
    def of(cls, conv: Any, axis: int) -> "_Axis":
        """The axis for a convolution; `axis` is 0 for rows and 1 for columns."""
        taps, stride, dilation = (_pair(value)[axis] for value in (conv.kernel_size, conv.stride, conv.dilation))
        extent = dilation * (taps - 1) + 1
        if isinstance(conv.padding, str):
            padding = (extent - 1) // 2 if conv.padding == "same" else 0
        else:
            padding = _pair(conv.padding)[axis]
        output = -(-padding // stride)
        first = output * stride - padding
        return cls(taps, output, slice(first, first + extent, dilation), first + extent + padding)


def feature_maps(network: nn.Module, image: Tensor, precision: str) -> dict[str, Tensor]:
    """The feature maps of an image: for each spatial size, the output of the last convolution with this output size.

    Sizes below `SIDE` pixels are omitted.

    Args:
        network: The network, on its device.
        image: A normalised image, `(1, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.

    Returns:
        Name of the convolution -> the first channels of its output, at most `MAPS`, float32 `(channels, H, W)`.
    """
    last: dict[tuple[int, ...], tuple[str, Tensor]] = {}

    def record(name: str, conv: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        size = tuple(output.shape[2:])
        if min(size) >= SIDE:
            # A copy, because the next activation may work in place.
            last[size] = name, output[0, :MAPS].float().clone()

    with _forward_hooks(_convs(network), record), evaluating(network), autocast(image.device, precision):
        network.forward(image)
    return dict(last.values())


def routing(network: nn.Module, batches: Iterable[Tensor], precision: str) -> dict[str, Routing]:
    """Compute statistics of the routing weights of each per-image convolution. The host waits once, at the end.

    A per-image convolution has an attribute `num_experts` K of at least 2, a parameter `weight`, `(K, ...)`, and a
    method `routing_weights(x)`, which returns `(N, K)`.

    Args:
        network: The network, on its device.
        batches: Normalised images, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.

    Returns:
        Name of the layer -> its statistics; empty if the network has no per-image convolution.
    """
    layers = {name: conv for name, conv in network.named_modules() if _is_routed(conv)}
    weights: dict[str, list[Tensor]] = {name: [] for name in layers}

    def record(name: str, conv: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        weights[name].append(conv.routing_weights(args[0]).float())

    if not layers:
        return {}
    with _forward_hooks(layers.items(), record), evaluating(network):
        for batch in batches:
            with autocast(batch.device, precision):
                network.forward(batch)
    statistics = {name: _statistics(torch.cat(parts), layers[name].weight) for name, parts in weights.items() if parts}
    if not statistics:
        return {}  # the forward pass calls none of these layers
    numbers = iter(torch.cat(list(statistics.values())).tolist())
    return {
        name: Routing(
            entropy=next(numbers),
            similarity=next(numbers),
            top_shares=tuple(next(numbers) for _ in range(layers[name].num_experts)),
        )
        for name in statistics
    }


@torch.no_grad()
def _statistics(routing_weights: Tensor, weight: Tensor) -> Tensor:
    """Entropy, similarity and top shares, `(2 + K,)`, from routing weights `(N, K)` and expert kernels `(K, ...)`."""
    experts = routing_weights.shape[1]
    # Routing weights from a sigmoid do not sum to 1.
    shares = routing_weights / routing_weights.sum(1, keepdim=True).clamp_min(1e-12)
    entropy = torch.special.entr(shares).sum(1).mean() / math.log(experts)
    kernels = F.normalize(weight.float().flatten(1), dim=1)
    cosines = kernels @ kernels.T
    similarity = (cosines.sum() - cosines.trace()) / (experts * (experts - 1))
    top = shares.argmax(1, keepdim=True)
    top_shares = (top == torch.arange(experts, device=top.device)).float().mean(0)
    return torch.cat([torch.stack([entropy, similarity]), top_shares])


def _convs(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Two-dimensional convolutions of any class in module order, without those inside of another convolution."""
    prefixes: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if name.startswith(prefixes):
            continue
        if (
            all(hasattr(module, attribute) for attribute in _GEOMETRY)
            and not getattr(module, "transposed", False)
            and len(_pair(module.kernel_size)) == 2
        ):
            prefixes = (*prefixes, f"{name}." if name else "")
            yield name, module


def _is_routed(module: Any) -> bool:
    return callable(getattr(module, "routing_weights", None)) and getattr(module, "num_experts", 0) > 1


def _expert_kernels(conv: Any) -> Tensor | None:
    """The kernels of the experts, `(C_out * K, C_in/groups, K_h, K_w)`, or None if `weight` has another size."""
    kernel = (conv.in_channels // conv.groups, *_pair(conv.kernel_size))
    weight = conv.weight.detach().float().flatten(1)
    if weight.shape[1] != conv.out_channels * torch.Size(kernel).numel():
        return None
    return weight.unflatten(1, (conv.out_channels, *kernel)).transpose(0, 1).flatten(0, 1)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@contextmanager
def _forward_hooks(modules: Iterable[tuple[str, nn.Module]], record: Callable[..., None]) -> Iterator[None]:
    """A context that calls `record(name, module, args, output)` after each forward pass of one of the modules."""

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, output: record(name, module, args, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
