"""Involution: a kernel for every place, the same for many channels, made from what is there."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# Every implementation takes x (N, C, H, W), kernels (N, G, T, H_out, W_out) with T = K_h * K_w taps, the kernel's size
# and the geometry, and gives (N, C, H_out, W_out).


def unfold(x: Tensor, kernels: Tensor, kernel_size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Lay out the K_h * K_w neighbours of every place, weigh them and add them up: the published form."""
    groups, taps, high, wide = kernels.shape[1:]
    columns = F.unfold(x, kernel_size, geometry.dilation, geometry.padding, geometry.stride)  # (N, C * T, L)
    neighbours = columns.unflatten(1, (groups, -1, taps)).unflatten(4, (high, wide))
    return (kernels[:, :, None] * neighbours).sum(3).flatten(1, 2)


def shifted(x: Tensor, kernels: Tensor, kernel_size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Add up one shifted view of the image for each tap: no copies of the image beside the sum."""
    groups, _, high, wide = kernels.shape[1:]
    (sh, sw), (ph, pw), (dh, dw), _ = geometry
    image = F.pad(x, (pw, pw, ph, ph)).unflatten(1, (groups, -1))
    y = None
    for tap, weight in enumerate(kernels.unbind(2)):
        top, left = tap // kernel_size[1] * dh, tap % kernel_size[1] * dw
        view = image[..., top : top + (high - 1) * sh + 1 : sh, left : left + (wide - 1) * sw + 1 : sw]
        part = weight[:, :, None] * view
        y = part if y is None else y + part
    assert y is not None  # a kernel has a tap
    return y.flatten(1, 2)


class Involution2d(Conv2dBase):
    """A depthwise filter whose kernel differs from place to place, and is made from the pixel at its centre.

        y[n, c, p] = bias[c] + sum_t kernel[n, group of c, t, p] * x[n, c, p + t]

        kernel = span(relu(reduce(x)))

    `reduce` (1x1, to C / `reduction` channels) and `span` (1x1, to K_h * K_w numbers for each group) turn the channels
    of a pixel into the kernel that is laid over it: where a convolution has a kernel for each channel and the same at
    all places, this has one for each place and the same for `group_channels` channels. It has C * C / reduction
    weights, whatever the kernel's size, and does not mix channels. The kernel's size is the layer's; the paper's
    networks have 7 x 7 where ResNets have 3 x 3. Where the output is smaller than the image, the image is
    average-pooled to its size before kernels are made from it, as in the authors' code for stride 2. The authors have a
    batch norm and a ReLU between `reduce` and `span`; here there is only the ReLU, so that the output for an image does
    not depend on its batch. The kernel grows with the image, and the output so with its square: in a network without
    norms that is not kept in bounds by any start, and involution is not for those.

    Refused are layers that change the number of channels, which involution cannot; 1x1 layers, of which a gate would
    remain; grouped layers; and channels that do not fall into groups of `group_channels` (fewer form one group).

    Input (N, C, H, W), output (N, C, H_out, W_out). Parameters, the same for every implementation: `reduce_weight`
    (C / reduction, C, 1, 1), `span_weight` (G * K_h * K_w, C / reduction, 1, 1), `span_bias` and `bias` (C,).

    Source: Li et al., "Involution: Inverting the Inherence of Convolution for Visual Recognition", CVPR 2021, arXiv
    2103.06255.

    Raises:
        UnsupportedLayerError: See above.
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "involution"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"unfold": unfold, "shifted": shifted}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ()
    reference_implementation: ClassVar[str] = "unfold"

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "unfold",
        reduction: int = 4,
        group_channels: int = 16,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self._whole("reduction", reduction, key=" (conv.reduction)")
        self._whole("group_channels", group_channels, key=" (conv.group_channels)")
        self._check_layer(group_channels)
        hidden = max(1, self.in_channels // reduction)
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.kernel_groups = max(1, self.in_channels // group_channels)
        self.reduce_weight = self._parameter(hidden, self.in_channels, 1, 1)
        self.span_weight = self._parameter(self.kernel_groups * taps, hidden, 1, 1)
        self.span_bias = self._parameter(self.kernel_groups * taps)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what the `nn.Conv2d` of each part's shape would draw; the bias as that of a depthwise one."""
        initialise_like_conv2d(self.reduce_weight, None)
        initialise_like_conv2d(self.span_weight, self.span_bias)
        if self.bias is not None:
            bound = (self.kernel_size[0] * self.kernel_size[1]) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Involve (N, C, H, W) into (N, C, H_out, W_out)."""
        padded = self._pad(x)
        size = self._geometry.output_size(padded.shape[2:], self.kernel_size)
        centres = x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)
        kernels = self._kernels(centres).unflatten(1, (self.kernel_groups, -1))
        y = self._function(padded, kernels, self.kernel_size, self._geometry)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def multiply_accumulates(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Give the N * C * K_h * K_w * H_out * W_out products of pixels and kernels, which no counter sees."""
        return math.prod(output_shape) * self.kernel_size[0] * self.kernel_size[1]

    def _kernels(self, centres: Tensor) -> Tensor:
        """Make the kernels (N, G * T, H_out, W_out) from the pixels (N, C, H_out, W_out) under their centres."""
        hidden = F.relu(F.conv2d(centres, self.reduce_weight))
        return F.conv2d(hidden, self.span_weight, self.span_bias)

    def _check_layer(self, group_channels: int) -> None:
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        if self.in_channels != self.out_channels:
            self._refuse("needs as many outputs as inputs")
        if self.in_channels > group_channels and self.in_channels % group_channels:
            self._refuse(f"cannot split its channels into groups of {group_channels} channels (conv.group_channels)")
