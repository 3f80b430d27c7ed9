"""The ghost convolution: a few maps by a real convolution, the others from them by cheap ones."""

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
    """Make the intrinsic maps, make the ghosts from them, and put both side by side.

    Args:
        x: (N, C_in, H, W).
        primary: (I, C_in, K_h, K_w), for the I intrinsic maps.
        cheap: (C_out - I, 1, D, D), D odd; ghost g comes from the intrinsic map g modulo I.
        bias: (C_out,) or none.
        geometry: Of the primary convolution, with one group.

    Returns:
        (N, C_out, H_out, W_out).
    """
    intrinsic = F.conv2d(x, primary, None, *geometry)
    ghosts, rounds = len(cheap), math.ceil(len(cheap) / len(primary))
    sources = torch.cat([intrinsic] * rounds, 1)[:, :ghosts]
    y = torch.cat([intrinsic, F.conv2d(sources, cheap, None, padding=cheap.shape[2] // 2, groups=ghosts)], 1)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


class GhostConv2d(Conv2dBase):
    """Intrinsic maps by a K x K convolution, and ghosts of them, each by one small kernel on one intrinsic map.

        z = primary * x  (I = ceil(C_out / ratio) maps),   y = [z, cheap[g] * z[g mod I] for the other C_out - I] + bias

    It has about `ratio` times fewer weights and multiplications than the standard convolution. The published module has
    batch norm and ReLU after each of its two parts; here there are none, since the conv stands where one linear layer
    stood. In the authors' code the ghosts of one map stand beside each other (g div (ratio - 1)) where here those of
    all maps take turns (g mod I): for ratios above 2 the same channels in another order. The ghosts' kernels see zeros
    beyond the border, whatever the layer's padding mode. Grouped layers are refused: intrinsic maps would have to be
    shared out among the groups. So are single outputs, which leave no ghost.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters: `primary_weight` (I, C_in, K_h, K_w),
    `cheap_weight` (C_out - I, 1, D, D) with D = `cheap_kernel`, and `bias` (C_out,). Each part starts as the
    `nn.Conv2d` of its shape would.

    Source: Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020, arXiv 1911.11907.

    Raises:
        UnsupportedLayerError: The layer is grouped, or has a single output channel.
        UserError: An argument is out of range, or does not go together with another one.
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
        if self._whole("cheap_kernel", cheap_kernel, key=" (conv.cheap_kernel)") % 2 == 0:
            raise UserError(f"ghost got cheap_kernel {cheap_kernel}; choose an odd number (conv.cheap_kernel)")
        if self.out_channels == 1:
            self._refuse("takes no single output channels")
        self.ratio = self._whole("ratio", ratio, least=2, key=" (conv.ratio)")
        intrinsic = math.ceil(self.out_channels / ratio)
        self.primary_weight = self._parameter(intrinsic, self.in_channels, *self.kernel_size)
        self.cheap_weight = self._parameter(self.out_channels - intrinsic, 1, cheap_kernel, cheap_kernel)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what an `nn.Conv2d` of each part's shape would draw; the bias belongs to the primary one."""
        initialise_like_conv2d(self.primary_weight, self.bias)
        initialise_like_conv2d(self.cheap_weight, None)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.primary_weight, self.cheap_weight, self.bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the ratio."""
        return f"{super().extra_repr()}, ratio={self.ratio}"
