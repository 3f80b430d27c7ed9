"""Involution: a kernel for each pixel, computed from that pixel and shared by groups of channels."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# All implementations take x (N, C, H, W), kernels (N, G, T, H_out, W_out) with T = K_h * K_w taps, the kernel size and
# the geometry. They return (N, C, H_out, W_out).


def unfold(x: Tensor, kernels: Tensor, kernel_size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Unfold the K_h * K_w neighbours of each pixel, multiply them with its kernel and add up: the published form."""
    groups, taps, height, width = kernels.shape[1:]
    columns = F.unfold(x, kernel_size, geometry.dilation, geometry.padding, geometry.stride)  # (N, C * T, L)
    neighbours = columns.unflatten(1, (groups, -1, taps)).unflatten(4, (height, width))
    return (kernels[:, :, None] * neighbours).sum(3).flatten(1, 2)


def shifted(x: Tensor, kernels: Tensor, kernel_size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Add up one shifted view of the image for each tap, which needs less memory than `unfold`."""
    groups, _, height, width = kernels.shape[1:]
    (sh, sw), (ph, pw), (dh, dw), _ = geometry
    image = F.pad(x, (pw, pw, ph, ph)).unflatten(1, (groups, -1))
    y = None
    for tap, weight in enumerate(kernels.unbind(2)):
        top, left = tap // kernel_size[1] * dh, tap % kernel_size[1] * dw
        view = image[..., top : top + (height - 1) * sh + 1 : sh, left : left + (width - 1) * sw + 1 : sw]
        part = weight[:, :, None] * view
        y = part if y is None else y + part
    assert y is not None  # a kernel has at least one tap
    return y.flatten(1, 2)


class Involution2d(Conv2dBase):
    """A depthwise filter whose kernel differs from pixel to pixel and is computed from the pixel at its centre.

        y[n, c, p] = bias[c] + sum_t kernel[n, group of c, t, p] * x[n, c, p + t]

        kernel = span(relu(reduce(x)))

    `reduce` (a 1x1 convolution to C / `reduction` channels) and `span` (a 1x1 convolution to K_h * K_w values for each
    group) compute the kernel of a pixel from its channels. A depthwise convolution has a kernel for each channel, which
    is the same for all pixels. Involution has a kernel for each pixel, which is the same for `group_channels` channels.
    The 1x1 convolution `reduce` has C * C / reduction weights, whatever the kernel size. Involution does not mix
    channels. The kernel size is that of the layer; the paper's networks use 7 x 7 where ResNets use 3 x 3.

    If the output is smaller than the image, the image is average-pooled to the size of the output before the kernels
    are computed, as in the authors' code for stride 2. The authors use a batch norm and a ReLU between `reduce` and
    `span`. This class has only the ReLU, so that the output for an image does not depend on the rest of the batch. The
    kernels grow in proportion to the input, and the outputs with its square. In a network without norms, no
    initialisation keeps the outputs bounded, so involution is not suitable for such networks.

    The following layers are refused: layers whose numbers of input and output channels differ; 1x1 layers, for which
    involution would only scale the input; grouped layers; and layers whose channels cannot be divided into groups of
    `group_channels`. Fewer channels than `group_channels` form one group.

    Input (N, C, H, W), output (N, C, H_out, W_out). Parameters, the same for every implementation: `reduce_weight`
    (C / reduction, C, 1, 1), `span_weight` (G * K_h * K_w, C / reduction, 1, 1), `span_bias` and `bias` (C,).

    Source: Li et al., "Involution: Inverting the Inherence of Convolution for Visual Recognition", CVPR 2021, arXiv
    2103.06255.

    Raises:
        UnsupportedLayerError: The layer is refused for one of the reasons above.
        UserError: An argument is out of range or incompatible with another argument.
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
        self._checked_int("reduction", reduction, key=" (conv.reduction)")
        self._checked_int("group_channels", group_channels, key=" (conv.group_channels)")
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
        """Initialise each part as the `nn.Conv2d` of its shape, and the bias as that of a depthwise one."""
        initialise_like_conv2d(self.reduce_weight, None)
        initialise_like_conv2d(self.span_weight, self.span_bias)
        if self.bias is not None:
            bound = (self.kernel_size[0] * self.kernel_size[1]) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the involution to (N, C, H, W); the output is (N, C, H_out, W_out)."""
        padded = self._pad(x)
        size = self._geometry.output_size(padded.shape[2:], self.kernel_size)
        centres = x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)
        kernels = self._kernels(centres).unflatten(1, (self.kernel_groups, -1))
        y = self._function(padded, kernels, self.kernel_size, self._geometry)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def multiply_accumulates(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Return the N * C * K_h * K_w * H_out * W_out products of pixels and kernels."""
        return math.prod(output_shape) * self.kernel_size[0] * self.kernel_size[1]

    def _kernels(self, centres: Tensor) -> Tensor:
        """Compute the kernels (N, G * T, H_out, W_out) from the pixels at their centres (N, C, H_out, W_out)."""
        hidden = F.relu(F.conv2d(centres, self.reduce_weight))
        return F.conv2d(hidden, self.span_weight, self.span_bias)

    def _check_layer(self, group_channels: int) -> None:
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        if self.in_channels != self.out_channels:
            self._refuse("needs as many output channels as input channels")
        if self.in_channels > group_channels and self.in_channels % group_channels:
            self._refuse(f"cannot split its channels into groups of {group_channels} channels (conv.group_channels)")
