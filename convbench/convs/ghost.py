"""The ghost convolution: a standard convolution for some feature maps, and cheap depthwise ones for the others."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.errors import UserError


def concatenated(x: Tensor, primary: Tensor, cheap: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Compute the intrinsic maps, compute the ghost maps from them, and concatenate both.

    Args:
        x: Input, shape (N, C_in, H, W).
        primary: Weight of the I intrinsic maps, shape (I, C_in, K_h, K_w).
        cheap: Weight of the ghost maps, shape (C_out - I, 1, D, D), D odd. Ghost g uses the intrinsic map g modulo I.
        bias: Bias, shape (C_out,), or None.
        geometry: Geometry of the primary convolution, with one group.

    Returns:
        (N, C_out, H_out, W_out).
    """
    intrinsic = F.conv2d(x, primary, None, *geometry)
    ghosts, repeats = len(cheap), math.ceil(len(cheap) / len(primary))
    sources = torch.cat([intrinsic] * repeats, 1)[:, :ghosts]
    y = torch.cat([intrinsic, F.conv2d(sources, cheap, None, padding=cheap.shape[2] // 2, groups=ghosts)], 1)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


class GhostConv2d(Conv2dBase):
    """Intrinsic maps from a K x K convolution, and ghost maps, each from one small kernel on one intrinsic map.

        z = primary * x  (I = ceil(C_out / ratio) maps),   y = [z, cheap[g] * z[g mod I] for the other C_out - I] + bias

    It has about `ratio` times fewer weights and multiplications than the standard convolution. The published module has
    a batch norm and a ReLU after each of its two parts. This class has none, since it replaces one linear layer. In the
    authors' code, ghost g uses the intrinsic map g div (ratio - 1), here the map g mod I: for ratios above 2, the same
    channels are in another order. The cheap kernels always pad with zeros, whatever the padding mode of the layer.
    Grouped layers are refused, because the intrinsic maps would have to be divided among the groups. Layers with a
    single output channel are refused, because they have no ghost map.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters: `primary_weight` (I, C_in, K_h, K_w),
    `cheap_weight` (C_out - I, 1, D, D) with D = `cheap_kernel`, and `bias` (C_out,). Each part is
    initialised as the `nn.Conv2d` of its shape.

    Source: Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020, arXiv 1911.11907.

    Raises:
        UnsupportedLayerError: The layer is grouped, or has a single output channel.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "ghost"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"concatenated": concatenated}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("primary_weight",)
    reference_implementation: ClassVar[str] = "concatenated"

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "concatenated",
        ratio: int = 2,
        cheap_kernel: int = 3,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self._checked_int("cheap_kernel", cheap_kernel, key=" (conv.cheap_kernel)") % 2 == 0:
            raise UserError(f"ghost got cheap_kernel {cheap_kernel}; choose an odd number (conv.cheap_kernel)")
        if self.out_channels == 1:
            self._refuse("needs at least 2 output channels")
        self.ratio = self._checked_int("ratio", ratio, least=2, key=" (conv.ratio)")
        intrinsic = math.ceil(self.out_channels / ratio)
        self.primary_weight = self._parameter(intrinsic, self.in_channels, *self.kernel_size)
        self.cheap_weight = self._parameter(self.out_channels - intrinsic, 1, cheap_kernel, cheap_kernel)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise each part as an `nn.Conv2d` of its shape; the bias belongs to the primary part."""
        initialise_like_conv2d(self.primary_weight, self.bias)
        initialise_like_conv2d(self.cheap_weight, None)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.primary_weight, self.cheap_weight, self.bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the ratio."""
        return f"{super().extra_repr()}, ratio={self.ratio}"
