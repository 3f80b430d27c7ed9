"""A look inside a network: its first kernels, its feature maps, and how its images are routed to kernels.

Pure functions; what they look at stays as it is: weights, running statistics, mode, gradients, random numbers.
They call `network.forward`, which is not compiled, so that the hooks of a look are neither missed nor compiled in.
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
from convbench.engine.evaluation import evaluating

MAPS = 32  # channels of a layer worth keeping for a picture
SIDE = 4  # pixels, below which a map is no picture

_GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Routing:
    """How the images share out the kernels of one layer.

    Attributes:
        entropy: of an image's shares, the mean over images, from 0 (each takes one kernel) to 1 (all kernels alike).
        top_shares: for each kernel the share of the images that take most of it.
        similarity: mean cosine between two kernels; near 1 they are one kernel.
    """

    entropy: float
    top_shares: tuple[float, ...]
    similarity: float


def first_kernels(network: nn.Module) -> Tensor | None:
    """The kernels of the first convolution, or None where it has none of its own.

    Of a convolution with several kernels for each filter (K experts), all of them, those of a filter side by side. Of
    any other, the dense kernels that it amounts to, however it stores them; none if it is not linear.

    Returns:
        `(C_out, C_in, K_h, K_w)`, with experts `(C_out * K, C_in/groups, K_h, K_w)`.
    """
    conv = next((conv for _, conv in _convs(network)), None)
    if conv is None:
        return None
    if _is_routed(conv):
        return _experts(conv)
    with evaluating(network):
        return dense_kernels(conv)


def dense_kernels(conv: Any) -> Tensor | None:
    """Read the kernels off a linear convolution, by unit impulses.

    An output far enough from the border sees an impulse through one tap of its window: one image for each tap, all in
    one batch. Two more images give the bias, and whether the outputs add up as those of a linear map do.

    Args:
        conv: in evaluation mode, with the geometry of an `nn.Conv2d`.

    Returns:
        `(C_out, C_in, K_h, K_w)`, or None if the convolution is not linear.
    """
    rows, columns = (_Axis.of(conv, axis) for axis in (0, 1))
    like = next(conv.parameters(), torch.empty(0))
    kernel = torch.Size([conv.in_channels, rows.taps, columns.taps])
    taps = kernel.numel()
    images = like.new_zeros(taps + 2, conv.in_channels, rows.size, columns.size)
    units = torch.eye(taps, device=like.device, dtype=like.dtype).unflatten(1, kernel)
    inside = images[:, :, rows.window, columns.window]
    inside[:taps] = units
    blend = torch.linspace(-1, 1, taps, device=like.device, dtype=like.dtype)
    inside[taps] = torch.einsum("t,tchw->chw", blend, units)
    with torch.no_grad():
        seen = conv(images)[:, :, rows.output, columns.output].float()  # (taps + 2, C_out)
    kernels, blended = seen[:taps] - seen[-1], seen[taps] - seen[-1]
    tolerance = 1e-2 * kernels.abs().sum(0).max().item()
    if not torch.allclose(blend.float() @ kernels, blended, rtol=0, atol=tolerance):
        return None
    return kernels.T.unflatten(1, kernel)


@dataclass(frozen=True)
class _Axis:
    """One axis of an image whose output number `output` lies with all its `window` inside of it.

    Attributes:
        taps: of the kernel.
        output: where to read.
        window: the pixels that it sees.
        size: of the image.
    """

    taps: int
    output: int
    window: slice
    size: int

    @classmethod
    def of(cls, conv: Any, axis: int) -> "_Axis":
        """The axis that suits a convolution: 0 for rows, 1 for columns."""
        taps, stride, dilation = (_pair(value)[axis] for value in (conv.kernel_size, conv.stride, conv.dilation))
        reach = dilation * (taps - 1) + 1
        if isinstance(conv.padding, str):
            padding = (reach - 1) // 2 if conv.padding == "same" else 0
        else:
            padding = _pair(conv.padding)[axis]
        output = -(-padding // stride)
        first = output * stride - padding
        return cls(taps, output, slice(first, first + reach, dilation), first + reach + padding)


def feature_maps(network: nn.Module, image: Tensor, precision: str) -> dict[str, Tensor]:
    """What an image `(1, C, H, W)` becomes: for each spatial size, the output of the last convolution of that size.

    Sizes below `SIDE` pixels are left out.

    Returns:
        Name of the convolution -> up to `MAPS` channels, `(channels, H, W)`, in the order of the forward pass.
    """
    last: dict[tuple[int, ...], tuple[str, Tensor]] = {}

    def listen(name: str, conv: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        size = tuple(output.shape[2:])
        if min(size) >= SIDE:
            # A copy, as an activation after it may work in place.
            last[size] = name, output[0, :MAPS].float().clone()

    with _listening(_convs(network), listen), evaluating(network), autocast(image.device, precision):
        network.forward(image)
    return dict(last.values())


def routing(network: nn.Module, batches: Iterable[Tensor], precision: str) -> dict[str, Routing]:
    """How images share out the kernels of each per-image convolution; the host waits once, at the end.

    Args:
        network: whose convolutions with `num_experts` kernels, of two and more, have a `weight` `(K, ...)` and a method
            `shares(x)` that gives `(N, K)`.
        batches: normalised images `(N, C, H, W)`.
        precision: in which to run.

    Returns:
        Name of the layer -> its routing; empty where there is no such convolution.
    """
    layers = {name: conv for name, conv in network.named_modules() if _is_routed(conv)}
    shares: dict[str, list[Tensor]] = {name: [] for name in layers}

    def listen(name: str, conv: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        shares[name].append(conv.routing_weights(args[0]).float())

    if not layers:
        return {}
    with _listening(layers.items(), listen), evaluating(network):
        for batch in batches:
            with autocast(batch.device, precision):
                network.forward(batch)
    statistics = {name: _statistics(torch.cat(parts), layers[name].weight) for name, parts in shares.items() if parts}
    if not statistics:
        return {}  # a forward pass need not reach every layer
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
def _statistics(shares: Tensor, weight: Tensor) -> Tensor:
    """Entropy, similarity and top shares of a layer, `(2 + K,)`, from shares `(N, K)` and kernels `(K, ...)`."""
    experts = shares.shape[1]
    shares = shares / shares.sum(1, keepdim=True).clamp_min(1e-12)  # those of a sigmoid do not add up to 1
    entropy = torch.special.entr(shares).sum(1).mean() / math.log(experts)
    kernels = F.normalize(weight.float().flatten(1), dim=1)
    cosines = kernels @ kernels.T
    similarity = (cosines.sum() - cosines.trace()) / (experts * (experts - 1))
    top = shares.argmax(1, keepdim=True)
    top_shares = (top == torch.arange(experts, device=top.device)).float().mean(0)
    return torch.cat([torch.stack([entropy, similarity]), top_shares])


def _convs(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Two-dimensional convolutions of any class, in the order of the network's modules; none inside of another."""
    inside: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if name.startswith(inside):
            continue
        if (
            all(hasattr(module, attribute) for attribute in _GEOMETRY)
            and not getattr(module, "transposed", False)
            and len(_pair(module.kernel_size)) == 2
        ):
            inside = (*inside, f"{name}." if name else "")
            yield name, module


def _is_routed(module: Any) -> bool:
    return callable(getattr(module, "routing_weights", None)) and getattr(module, "num_experts", 0) > 1


def _experts(conv: Any) -> Tensor | None:
    """The experts' kernels, where they are stored as such."""
    kernel = (conv.in_channels // conv.groups, *_pair(conv.kernel_size))
    weight = conv.weight.detach().float().flatten(1)
    if weight.shape[1] != conv.out_channels * torch.Size(kernel).numel():
        return None
    return weight.unflatten(1, (conv.out_channels, *kernel)).transpose(0, 1).flatten(0, 1)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@contextmanager
def _listening(modules: Iterable[tuple[str, nn.Module]], listen: Callable[..., None]) -> Iterator[None]:
    """Call `listen(name, module, args, output)` whenever one of the modules has run."""

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, output: listen(name, module, args, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
