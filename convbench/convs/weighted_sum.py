"""The weighted-sum convolution: choose channels first, then convolve each choice with one small kernel."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import PLAIN, Geometry, add_bias, as_autocast


def pointwise(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """Convolve 1x1, then depthwise: the published form of the second edition (S1).

    Args:
        x: (N, C_in, H, W).
        mix: The weights of the sums over channels, (C_out, C_in/groups, 1, 1).
        kernel: One kernel for each output channel, (C_out, 1, K_h, K_w).
        bias: (C_out,) or none.
        geometry: Stride, padding and dilation of the depthwise part, groups of the pointwise part. A 1x1 convolution
            without bias keeps zeros as they are, so either part could pad.

    Returns:
        (N, C_out, H_out, W_out).
    """
    return F.conv2d(F.conv2d(x, mix, groups=geometry.groups), kernel, bias, *geometry.with_groups(kernel.shape[0]))


def linear(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """As `pointwise`, with a linear layer for the sums: the published form of the first edition (S0)."""
    last, groups = x.permute(0, 2, 3, 1), geometry.groups
    if groups == 1:
        sums = F.linear(last, mix.flatten(1))
    else:
        grouped = last.unflatten(3, (groups, -1))
        sums = torch.einsum("nhwgi,goi->nhwgo", grouped, mix.flatten(1).unflatten(0, (groups, -1))).flatten(3)
    return F.conv2d(sums.permute(0, 3, 1, 2), kernel, bias, *geometry.with_groups(kernel.shape[0]))


def folded(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """As `pointwise`, with both factors folded into one dense kernel W[o, i] = mix[o, i] * kernel[o]."""
    return F.conv2d(x, mix * kernel, bias, *geometry)


def fused(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """As `pointwise`, but on a GPU in one pass that never writes the sums to memory.

    That is written for what most layers are: 3 x 3 kernels, stride 1, padding 1, no groups, no float64. All others, and
    those on other devices, are computed as `pointwise`.
    """
    is_plain = geometry == Geometry(padding=(1, 1))
    x_cast, mix_cast = as_autocast(x, mix)
    if not (_HAS_TRITON and is_plain and kernel.shape[2:] == (3, 3) and _fits(x_cast, len(mix))):
        return pointwise(x, mix, kernel, bias, geometry)
    from convbench.convs.weighted_sum_triton import weighted_sum  # Triton: seconds, and not on every machine

    return add_bias(weighted_sum(x_cast, mix_cast, kernel.to(x_cast.dtype)), bias)


_HAS_TRITON = importlib.util.find_spec("triton") is not None
_LARGEST = 2**31  # numbers of a batch, which the kernels count in 32 bits


def _fits(x: Tensor, outputs: int) -> bool:
    numbers = x.shape[0] * x.shape[2] * x.shape[3] * max(x.shape[1], outputs)
    is_there = x.is_cuda or (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")
    return is_there and x.dtype in (torch.float32, torch.bfloat16, torch.float16) and numbers < _LARGEST


class WeightedSumConv2d(Conv2dBase):
    """One K x K kernel for each output channel, applied to a weighted sum of the input channels.

        y[n, o] = bias[o] + kernel[o] * sum_i mix[o, i] x[n, i]

    It has C_in/groups * C_out + C_out * K_h * K_w weights, fewer than a standard convolution whenever
    C_in/groups > K/(K - 1) with K = K_h * K_w.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation:
    `pointwise_weight` (C_out, C_in/groups, 1, 1), `depthwise_weight` (C_out, 1, K_h, K_w), `bias` (C_out,). Each of the
    two parts starts as the `nn.Conv2d` of its shape would.

    Sources: the write-up "channels selection convolution" in its two editions (S0: linear layer, S1: 1x1 convolution).
    The literature knows it as BSConv-U, the blueprint separable convolution, unconstrained (Haase and Amthor,
    "Rethinking Depthwise Separable Convolutions", CVPR 2020, arXiv 2003.13549).

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "weighted_sum"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "linear": linear,
        "pointwise": pointwise,
        "folded": folded,
        "fused": fused,
    }
    only_on: ClassVar[Mapping[str, str]] = {"fused": "cuda"}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("depthwise_weight",)
    reference_implementation: ClassVar[str] = "pointwise"

    def __init__(self, *conv2d: Any, implementation: str = "pointwise", **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.pointwise_weight = self._parameter(self.out_channels, self.in_channels // self.groups, 1, 1)
        self.depthwise_weight = self._parameter(self.out_channels, 1, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what two `nn.Conv2d` after each other would draw, the bias belonging to the depthwise one."""
        initialise_like_conv2d(self.pointwise_weight, None)
        initialise_like_conv2d(self.depthwise_weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.pointwise_weight, self.depthwise_weight, self.bias, self._geometry)
