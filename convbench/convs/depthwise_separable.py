"""The depthwise separable convolution: a depthwise convolution, then a 1x1 convolution."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# All implementations take x (N, C_in, H, W), kernel (C_in, 1, K_h, K_w), mix (C_out, C_in/G, 1, 1), bias (C_out,) or
# None, and the geometry: stride, padding and dilation of the depthwise part and the groups G of the pointwise part.
# They return (N, C_out, H_out, W_out).


def pointwise(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Apply the depthwise convolution, then the 1x1 convolution: the published form."""
    y = F.conv2d(x, kernel, None, *geometry.with_groups(kernel.shape[0]))
    return F.conv2d(y, mix, bias, groups=geometry.groups)


def linear(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Compute as `pointwise`, with a linear layer instead of the 1x1 convolution."""
    groups = geometry.groups
    pixels = F.conv2d(x, kernel, None, *geometry.with_groups(kernel.shape[0])).permute(0, 2, 3, 1)  # (N, H, W, C_in)
    if groups == 1:
        y = F.linear(pixels, mix.flatten(1), bias)
    else:
        kernels = mix.flatten(1).unflatten(0, (groups, -1))
        y = torch.einsum("nhwgi,goi->nhwgo", pixels.unflatten(3, (groups, -1)), kernels).flatten(3)
        y = y if bias is None else y + bias
    return y.permute(0, 3, 1, 2)


def folded(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Compute as `pointwise`, with both factors folded into one dense kernel W[o, i] = mix[o, i] * kernel[i]."""
    kernels = kernel.squeeze(1).unflatten(0, (geometry.groups, 1, -1))  # (G, 1, C_in/G, K_h, K_w)
    weight = (mix.unflatten(0, (geometry.groups, -1)) * kernels).flatten(0, 1)
    return F.conv2d(x, weight, bias, *geometry)


class DepthwiseSeparableConv2d(Conv2dBase):
    """One K x K kernel for each input channel, then weighted sums of the results over channels.

        y[n, o] = bias[o] + sum_i mix[o, i] (kernel[i] * x[n, i])

    It has C_in * K_h * K_w + C_in/groups * C_out weights. `weighted_sum` applies the two factors in the opposite order,
    so that it has a kernel for each output channel and not for each input channel. The depthwise part has the stride,
    padding and dilation of the layer, and the pointwise part has its groups. The published blocks have a batch norm and
    a ReLU between the two parts. This class has none, since it replaces one linear layer.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation:
    `depthwise_weight` (C_in, 1, K_h, K_w), `pointwise_weight` (C_out, C_in/groups, 1, 1), `bias` (C_out,). Each part is
    initialised as the `nn.Conv2d` of its shape.

    Sources: Sifre, "Rigid-Motion Scattering for Image Classification", 2014; Chollet, "Xception", CVPR 2017, arXiv
    1610.02357; Howard et al., "MobileNets", 2017, arXiv 1704.04861.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "depthwise_separable"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "pointwise": pointwise,
        "linear": linear,
        "folded": folded,
    }
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("pointwise_weight",)
    reference_implementation: ClassVar[str] = "pointwise"

    def __init__(self, *conv2d: Any, implementation: str = "pointwise", **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.depthwise_weight = self._parameter(self.in_channels, 1, *self.kernel_size)
        self.pointwise_weight = self._parameter(self.out_channels, self.in_channels // self.groups, 1, 1)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise both parts as `nn.Conv2d` in this order; the bias belongs to the pointwise part."""
        initialise_like_conv2d(self.depthwise_weight, None)
        initialise_like_conv2d(self.pointwise_weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.depthwise_weight, self.pointwise_weight, self.bias, self._geometry)
