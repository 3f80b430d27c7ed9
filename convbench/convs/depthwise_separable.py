"""The depthwise separable convolution: one small kernel for each input channel, then weighted sums over channels."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# Every implementation takes x (N, C_in, H, W), kernel (C_in, 1, K_h, K_w), mix (C_out, C_in/G, 1, 1), bias (C_out,) or
# none, the geometry of the depthwise part and the groups G of the pointwise one, and gives (N, C_out, H_out, W_out).


def pointwise(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve depthwise, then 1x1: the published form."""
    y = F.conv2d(x, kernel, None, *geometry.with_groups(kernel.shape[0]))
    return F.conv2d(y, mix, bias, groups=geometry.groups)


def linear(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """As `pointwise`, with a linear layer for the sums."""
    groups = geometry.groups
    last = F.conv2d(x, kernel, None, *geometry.with_groups(kernel.shape[0])).permute(0, 2, 3, 1)
    if groups == 1:
        y = F.linear(last, mix.flatten(1), bias)
    else:
        kernels = mix.flatten(1).unflatten(0, (groups, -1))
        y = torch.einsum("nhwgi,goi->nhwgo", last.unflatten(3, (groups, -1)), kernels).flatten(3)
        y = y if bias is None else y + bias
    return y.permute(0, 3, 1, 2)


def folded(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """As `pointwise`, with both factors folded into one dense kernel W[o, i] = mix[o, i] * kernel[i]."""
    of_group = kernel.squeeze(1).unflatten(0, (geometry.groups, 1, -1))  # (G, 1, C_in/G, K_h, K_w)
    weight = (mix.unflatten(0, (geometry.groups, -1)) * of_group).flatten(0, 1)
    return F.conv2d(x, weight, bias, *geometry)


class DepthwiseSeparableConv2d(Conv2dBase):
    """One K x K kernel for each input channel, and weighted sums of what they give.

        y[n, o] = bias[o] + sum_i mix[o, i] (kernel[i] * x[n, i])

    It has C_in * K_h * K_w + C_in/groups * C_out weights. `weighted_sum` has these two factors in the other order, so
    that each output and not each input has a kernel. Stride, padding and dilation are those of the depthwise part; the
    layer's groups are those of the pointwise part. The published blocks have a batch norm and a ReLU between the two
    parts; here there is none, since the conv stands where one linear layer stood.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation:
    `depthwise_weight` (C_in, 1, K_h, K_w), `pointwise_weight` (C_out, C_in/groups, 1, 1), `bias` (C_out,). Each of the
    two parts starts as the `nn.Conv2d` of its shape would.

    Sources: Sifre, "Rigid-Motion Scattering for Image Classification", 2014; Chollet, "Xception", CVPR 2017, arXiv
    1610.02357; Howard et al., "MobileNets", 2017, arXiv 1704.04861.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
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
        """Draw what two `nn.Conv2d` after each other would draw, the bias belonging to the pointwise one."""
        initialise_like_conv2d(self.depthwise_weight, None)
        initialise_like_conv2d(self.pointwise_weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.depthwise_weight, self.pointwise_weight, self.bias, self._geometry)
