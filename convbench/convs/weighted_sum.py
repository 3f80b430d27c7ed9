"""The weighted-sum convolution: weighted sums over channels, then one small kernel for each sum."""

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
    """Apply a 1x1 convolution, then a depthwise one: the published form of the second edition (S1).

    Args:
        x: Input, shape (N, C_in, H, W).
        mix: Weights of the sums over channels, shape (C_out, C_in/groups, 1, 1).
        kernel: One kernel for each output channel, shape (C_out, 1, K_h, K_w).
        bias: Bias, shape (C_out,), or None.
        geometry: Stride, padding and dilation of the depthwise part, and groups of the pointwise part. Padding before
            the 1x1 convolution would give the same result, because it has no bias.

    Returns:
        The output, shape (N, C_out, H_out, W_out).
    """
    return F.conv2d(F.conv2d(x, mix, groups=geometry.groups), kernel, bias, *geometry.with_groups(kernel.shape[0]))


def linear(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """Compute as `pointwise`, with a linear layer for the sums: the published form of the first edition (S0)."""
    pixels, groups = x.permute(0, 2, 3, 1), geometry.groups  # (N, H, W, C_in)
    if groups == 1:
        sums = F.linear(pixels, mix.flatten(1))
    else:
        grouped = pixels.unflatten(3, (groups, -1))
        sums = torch.einsum("nhwgi,goi->nhwgo", grouped, mix.flatten(1).unflatten(0, (groups, -1))).flatten(3)
    return F.conv2d(sums.permute(0, 3, 1, 2), kernel, bias, *geometry.with_groups(kernel.shape[0]))


def folded(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """Compute as `pointwise`, with both factors folded into one dense kernel W[o, i] = mix[o, i] * kernel[o]."""
    return F.conv2d(x, mix * kernel, bias, *geometry)


def fused(x: Tensor, mix: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry = PLAIN) -> Tensor:
    """Compute as `pointwise`, on a GPU in one kernel that does not write the sums to memory.

    The Triton kernel supports the most frequent layers: 3 x 3 kernels, stride 1, padding 1, no groups, no float64. All
    other layers, and all layers on other devices, are computed by `pointwise`.
    """
    is_supported_geometry = geometry == Geometry(padding=(1, 1)) and kernel.shape[2:] == (3, 3)
    x_cast, mix_cast = as_autocast(x, mix)
    if not (_HAS_TRITON and is_supported_geometry and _is_supported_input(x_cast, len(mix))):
        return pointwise(x, mix, kernel, bias, geometry)
    # Triton takes seconds to import, and is not installed on every machine.
    from convbench.convs.weighted_sum_triton import weighted_sum

    return add_bias(weighted_sum(x_cast, mix_cast, kernel.to(x_cast.dtype)), bias)


_HAS_TRITON = importlib.util.find_spec("triton") is not None
_MAX_ELEMENTS = 2**31  # the Triton kernels compute offsets in 32-bit integers


def _is_supported_input(x: Tensor, out_channels: int) -> bool:
    """Return whether the Triton kernels support the device, the dtype and the size of the batch x (N, C_in, H, W)."""
    elements = x.shape[0] * x.shape[2] * x.shape[3] * max(x.shape[1], out_channels)
    is_triton_device = x.is_cuda or (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")
    return is_triton_device and x.dtype in (torch.float32, torch.bfloat16, torch.float16) and elements < _MAX_ELEMENTS


class WeightedSumConv2d(Conv2dBase):
    """One K x K kernel for each output channel, applied to a weighted sum of the input channels.

        y[n, o] = bias[o] + kernel[o] * sum_i mix[o, i] x[n, i]

    It has C_in/groups * C_out + C_out * K_h * K_w weights, which is less than a standard convolution if
    C_in/groups > T/(T - 1) with T = K_h * K_w.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation:
    `pointwise_weight` (C_out, C_in/groups, 1, 1), `depthwise_weight` (C_out, 1, K_h, K_w), `bias` (C_out,). Each part
    is initialised as the `nn.Conv2d` of its shape.

    Sources: the write-up "channels selection convolution" in its two editions (S0: linear layer, S1: 1x1 convolution).
    In the literature it is BSConv-U, the unconstrained blueprint separable convolution (Haase and Amthor,
    "Rethinking Depthwise Separable Convolutions", CVPR 2020, arXiv 2003.13549).

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
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
        """Initialise both parts as `nn.Conv2d` in this order; the bias belongs to the depthwise part."""
        initialise_like_conv2d(self.pointwise_weight, None)
        initialise_like_conv2d(self.depthwise_weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.pointwise_weight, self.depthwise_weight, self.bias, self._geometry)
