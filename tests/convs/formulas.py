"""The number of parameters and of products of every convolution, from the descriptions of the papers.

Notation: C_in and C_out channels, a K x K kernel, the groups of the layer, and the arguments of the convolution itself.
Every parameter count includes the bias.
"""

import math
from collections.abc import Callable
from typing import Any


def standard(c_in: int, c_out: int, k: int, groups: int) -> int:
    """A K x K kernel over the input channels of its group for each output channel."""
    return c_out * (c_in // groups) * k * k + c_out


def grouped(c_in: int, c_out: int, k: int, groups: int, cardinality: int) -> int:
    return standard(c_in, c_out, k, groups * cardinality)


def weight_standardised(c_in: int, c_out: int, k: int, groups: int, **_: Any) -> int:
    """The standardisation has no parameters."""
    return standard(c_in, c_out, k, groups)


def coordconv(c_in: int, c_out: int, k: int, groups: int, radius: bool) -> int:
    """Two or three more input channels."""
    return standard(c_in + (3 if radius else 2), c_out, k, groups)


def weighted_sum(c_in: int, c_out: int, k: int, groups: int) -> int:
    """A 1x1 convolution, then a depthwise one of the output channels."""
    return c_out * (c_in // groups) + c_out * k * k + c_out


def blueprint_s(
    c_in: int, c_out: int, k: int, groups: int, ratio: float, least_hidden: int, orthonormality: float
) -> int:
    """Two 1x1 convolutions with M hidden channels between them, then a depthwise one of the output channels."""
    m = min(c_in, max(least_hidden, math.ceil(ratio * c_in)))
    return c_in * m + m * c_out + c_out * k * k + c_out


def depthwise_separable(c_in: int, c_out: int, k: int, groups: int) -> int:
    """A depthwise convolution of the input channels, then a 1x1 convolution."""
    return c_in * k * k + c_out * (c_in // groups) + c_out


def large_kernel(c_in: int, c_out: int, k: int, groups: int, large_kernel: int) -> int:
    return depthwise_separable(c_in, c_out, large_kernel, groups)


def ghost(c_in: int, c_out: int, k: int, groups: int, ratio: int, cheap_kernel: int) -> int:
    """A standard convolution for the intrinsic maps, and one small kernel for each ghost map."""
    intrinsic = math.ceil(c_out / ratio)
    return intrinsic * c_in * k * k + (c_out - intrinsic) * cheap_kernel**2 + c_out


def partial(c_in: int, c_out: int, k: int, groups: int, ratio: int) -> int:
    """A standard convolution of 1/ratio of the channels, then a 1x1 convolution of all channels."""
    convolved = c_in // ratio
    return convolved * convolved * k * k + c_in * c_out + c_out


def pyramidal(c_in: int, c_out: int, k: int, groups: int, level_groups: list[int]) -> int:
    """Grouped convolutions with kernels of size K, K + 2, ..., among which the output channels are divided evenly."""
    per_level = c_out // len(level_groups)
    return sum(per_level * (c_in // g) * (k + 2 * level) ** 2 for level, g in enumerate(level_groups)) + c_out


def dynamic(c_in: int, c_out: int, k: int, groups: int, num_experts: int, reduction: float, temperature: float) -> int:
    """The experts, and an attention of two linear layers, the first without bias."""
    hidden = int(c_in * reduction) + 1
    attention = c_in * hidden + (hidden + 1) * num_experts
    return num_experts * standard(c_in, c_out, k, groups) + (attention if num_experts > 1 else 0)


def condconv(c_in: int, c_out: int, k: int, groups: int, num_experts: int) -> int:
    """The experts, and one linear layer for the routing weights."""
    return num_experts * standard(c_in, c_out, k, groups) + (c_in + 1) * num_experts


def odconv(
    c_in: int,
    c_out: int,
    k: int,
    groups: int,
    num_experts: int,
    reduction: float,
    least_hidden: int,
    temperature: float,
) -> int:
    """The experts, and a linear layer for the hidden units and for each of the four dimensions of the kernel."""
    hidden = max(least_hidden, int(c_in * reduction))
    experts = num_experts if num_experts > 1 else 0
    taps = k * k if k > 1 else 0
    filters = 0 if groups == c_in == c_out else c_out
    heads = (hidden + 1) * (experts + taps + c_in + filters)
    return num_experts * standard(c_in, c_out, k, groups) + c_in * hidden + heads


def involution(c_in: int, c_out: int, k: int, groups: int, reduction: int, group_channels: int) -> int:
    """A 1x1 convolution without bias to the hidden channels, and one with bias to a kernel for each group."""
    hidden = max(1, c_in // reduction)
    kernels = max(1, c_in // group_channels) * k * k
    return c_in * hidden + (hidden + 1) * kernels + c_out


def deformable(c_in: int, c_out: int, k: int, groups: int, offset_groups: int, offset_rate: float) -> int:
    """The convolution, and another one for two offsets and a mask for each tap of each offset group."""
    return standard(c_in, c_out, k, groups) + standard(c_in, 3 * offset_groups * k * k, k, 1)


PARAMETERS: dict[str, Callable[..., int]] = {
    "standard": standard,
    "from_scratch": standard,
    "grouped": grouped,
    "weight_standardised": weight_standardised,
    "coordconv": coordconv,
    "weighted_sum": weighted_sum,
    "blueprint_s": blueprint_s,
    "depthwise_separable": depthwise_separable,
    "large_kernel": large_kernel,
    "ghost": ghost,
    "partial": partial,
    "pyramidal": pyramidal,
    "dynamic": dynamic,
    "condconv": condconv,
    "odconv": odconv,
    "involution": involution,
    "deformable": deformable,
}


def products(name: str, pixels: int, c_in: int, c_out: int, k: int, groups: int, **own: Any) -> int:
    """Return the products of convolutions and matrix products for one image, with stride 1 and same padding.

    They exclude those that FlopCounterMode does not see: bilinear interpolation, and kernels for each pixel.
    """
    parameters = PARAMETERS[name](c_in, c_out, k, groups, **own)
    if name in ("dynamic", "condconv", "odconv"):
        # One mixed kernel for each image; the experts and the routing layers are multiplied once for each image.
        experts = own["num_experts"]
        biases = {"dynamic": experts, "condconv": experts, "odconv": experts + k * k + c_in + c_out}[name]
        return pixels * c_out * (c_in // groups) * k * k + parameters - biases
    biases = c_out
    if name == "involution":
        biases += max(1, c_in // own["group_channels"]) * k * k
    if name == "deformable":
        biases += 3 * own["offset_groups"] * k * k
    return pixels * (parameters - biases)
