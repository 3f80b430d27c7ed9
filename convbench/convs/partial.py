"""The partial convolution: spatial filtering for a share of the channels, weighted sums for all."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# Every implementation takes x (N, C_in, H, W), unpadded, kernel (P, P, K_h, K_w), mix (C_out, C_in, 1, 1),
# bias (C_out,) or none, `pad`, which pads as the layer does, and the geometry, and gives (N, C_out, H, W).


def concatenated(
    x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, pad: Callable[[Tensor], Tensor], geometry: Geometry
) -> Tensor:
    """Convolve the first channels, put the others behind them as they are, and mix all 1x1: the published form."""
    convolved, others = x.split([len(kernel), x.shape[1] - len(kernel)], 1)
    convolved = F.conv2d(pad(convolved), kernel, None, *geometry)
    return F.conv2d(torch.cat([convolved, others], 1), mix, bias)


def added(
    x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, pad: Callable[[Tensor], Tensor], geometry: Geometry
) -> Tensor:
    """Fold the first channels' two steps into one convolution to all outputs, and add the others' sums."""
    first, others = x.split([len(kernel), x.shape[1] - len(kernel)], 1)
    mix_first, mix_others = mix.split([len(kernel), x.shape[1] - len(kernel)], 1)
    composed = torch.einsum("op,pihw->oihw", mix_first.flatten(1), kernel)
    return F.conv2d(pad(first), composed, bias, *geometry) + F.conv2d(others, mix_others)


class PartialConv2d(Conv2dBase):
    """A K x K convolution over a share of the channels, the others untouched, then weighted sums of all channels.

        z[n] = [kernel * x[n, :P], x[n, P:]],   y[n, o] = bias[o] + sum_i mix[o, i] z[n, i],   P = C_in // ratio

    It has P * P * K_h * K_w + C_in * C_out weights; with the published ratio of 4 its K x K part does 1/16 of the
    standard convolution's multiplications and reads a quarter of its channels. The paper always puts the 1x1
    convolution behind the partial one (together they reach as far as a T), so both stand here for one layer, without
    the batch norm and activation that follow in its block.

    Refused are layers in which the untouched channels would have no place: with a stride, with a size that changes, and
    grouped ones; 1x1 layers, which have nothing spatial to save; and fewer channels than `ratio`.

    Input (N, C_in, H, W), output (N, C_out, H, W). Parameters, the same for every implementation: `partial_weight`
    (P, P, K_h, K_w), `pointwise_weight` (C_out, C_in, 1, 1) and `bias` (C_out,). Both parts start as the `nn.Conv2d` of
    their shape would.

    Source: Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks" (FasterNet), CVPR 2023,
    arXiv 2303.03667.

    Raises:
        UnsupportedLayerError: See above.
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "partial"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"concatenated": concatenated, "added": added}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("pointwise_weight",)
    reference_implementation: ClassVar[str] = "concatenated"

    def __init__(self, *conv2d: Any, implementation: str = "concatenated", ratio: int = 4, **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.ratio = self._whole("ratio", ratio, key=" (conv.ratio)")
        self._check_layer()
        channels = self.in_channels // ratio
        self.partial_weight = self._parameter(channels, channels, *self.kernel_size)
        self.pointwise_weight = self._parameter(self.out_channels, self.in_channels, 1, 1)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what two `nn.Conv2d` after each other would draw, the bias belonging to the 1x1 one."""
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
                self._refuse("needs padding that keeps the size")
        if self.in_channels < self.ratio:
            self._refuse(f"takes no fewer than {self.ratio} channels (conv.ratio)")
