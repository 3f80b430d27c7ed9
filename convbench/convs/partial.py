"""The partial convolution: a K x K convolution of some of the channels, then a 1x1 convolution of all channels."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# All implementations take x (N, C_in, H, W) without padding, kernel (P, P, K_h, K_w), mix (C_out, C_in, 1, 1),
# bias (C_out,) or None, the function `pad`, which applies the padding of the layer, and the geometry. They return
# (N, C_out, H, W).


def concatenated(
    x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, pad: Callable[[Tensor], Tensor], geometry: Geometry
) -> Tensor:
    """Convolve the first P channels, append the unchanged rest, and apply the 1x1 convolution: the published form."""
    first, rest = x.split([len(kernel), x.shape[1] - len(kernel)], 1)
    convolved = F.conv2d(pad(first), kernel, None, *geometry)
    return F.conv2d(torch.cat([convolved, rest], 1), mix, bias)


def added(
    x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, pad: Callable[[Tensor], Tensor], geometry: Geometry
) -> Tensor:
    """Fold both convolutions of the first P channels into one, and add the 1x1 convolution of the other channels."""
    first, rest = x.split([len(kernel), x.shape[1] - len(kernel)], 1)
    mix_first, mix_rest = mix.split([len(kernel), x.shape[1] - len(kernel)], 1)
    composed = torch.einsum("op,pihw->oihw", mix_first.flatten(1), kernel)
    return F.conv2d(pad(first), composed, bias, *geometry) + F.conv2d(rest, mix_rest)


class PartialConv2d(Conv2dBase):
    """A K x K convolution of the first C_in // `ratio` channels, then weighted sums of all channels.

        z[n] = [kernel * x[n, :P], x[n, P:]],   y[n, o] = bias[o] + sum_i mix[o, i] z[n, i],   P = C_in // ratio

    It has P * P * K_h * K_w + C_in * C_out weights. With the published ratio of 4, the K x K part needs 1/16 of the
    multiplications of the standard convolution and reads a quarter of its channels. In the paper, a 1x1 convolution
    always follows the partial one; their joint receptive field has the shape of a T. This class therefore contains
    both, without the batch norm and the activation that follow in the paper's block.

    The following layers are refused: layers with a stride or with another size of the output, because the unchanged
    channels keep the size of the input; grouped layers; 1x1 layers, because there is no K x K part to reduce; and
    layers with fewer input channels than `ratio`.

    Input (N, C_in, H, W), output (N, C_out, H, W). Parameters, the same for every implementation: `partial_weight`
    (P, P, K_h, K_w), `pointwise_weight` (C_out, C_in, 1, 1) and `bias` (C_out,). Each part is initialised as the
    `nn.Conv2d` of its shape.

    Source: Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks" (FasterNet), CVPR 2023,
    arXiv 2303.03667.

    Raises:
        UnsupportedLayerError: The layer is refused for one of the reasons above.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "partial"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"concatenated": concatenated, "added": added}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("pointwise_weight",)
    reference_implementation: ClassVar[str] = "concatenated"

    def __init__(self, *conv2d: Any, implementation: str = "concatenated", ratio: int = 4, **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.ratio = self._checked_int("ratio", ratio, key=" (conv.ratio)")
        self._check_layer()
        channels = self.in_channels // ratio
        self.partial_weight = self._parameter(channels, channels, *self.kernel_size)
        self.pointwise_weight = self._parameter(self.out_channels, self.in_channels, 1, 1)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise both parts as `nn.Conv2d` in this order; the bias belongs to the 1x1 part."""
        initialise_like_conv2d(self.partial_weight, None)
        initialise_like_conv2d(self.pointwise_weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H, W)."""
        weights = (self.partial_weight, self.pointwise_weight, self.bias)
        return self._function(x, *weights, self._pad, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the ratio."""
        return f"{super().extra_repr()}, ratio={self.ratio}"

    def _check_layer(self) -> None:
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        if self.stride != (1, 1):
            self._refuse("needs stride 1")
        if self.padding != "same":
            padding = (0, 0) if isinstance(self.padding, str) else self.padding
            if Geometry(padding=padding, dilation=self.dilation).output_size((99, 99), self.kernel_size) != (99, 99):
                self._refuse("needs padding that keeps the size of the image")
        if self.in_channels < self.ratio:
            self._refuse(f"needs at least {self.ratio} input channels (conv.ratio)")
