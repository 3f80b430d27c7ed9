"""The deformable convolution: every tap of the kernel looks where the image tells it to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.errors import UserError

# Shapes below: D offset groups, T = K_h * K_w taps. Every implementation takes x (N, C_in, H, W), offset
# (N, D * T * 2, H_out, W_out), row before column, mask (N, D * T, H_out, W_out), weight (C_out, C_in/G, K_h, K_w),
# bias (C_out,) or none, and gives (N, C_out, H_out, W_out).


def torchvision(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Leave it to torchvision's operator, which reads the groups off the weight."""
    return deform_conv2d(x, offset, weight, bias, geometry.stride, geometry.padding, geometry.dilation, mask)


def sampled(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Sample the image where each tap looks, four pixels around each place, and take one matrix product."""
    size, taps, groups = offset.shape[2:], weight.shape[2] * weight.shape[3], geometry.groups
    rows, columns = _grid(x, weight.shape[2:], size, geometry)  # (T, H_out, W_out) each
    offset = offset.unflatten(1, (-1, taps, 2))  # (N, D, T, 2, H_out, W_out)
    samples = _bilinear(x, rows + offset[:, :, :, 0], columns + offset[:, :, :, 1])
    samples = samples * mask.unflatten(1, (-1, 1, taps))  # (N, D, C_in/D, T, H_out, W_out)
    patches = samples.flatten(1, 2).flatten(3).unflatten(1, (groups, -1)).flatten(2, 3)  # (N, G, C_in/G * T, L)
    y = (weight.flatten(1).unflatten(0, (groups, -1)) @ patches).flatten(1, 2).unflatten(2, size)
    return y if bias is None else y + bias[:, None, None]


def _grid(x: Tensor, kernel_size: Sequence[int], size: Sequence[int], geometry: Geometry) -> list[Tensor]:
    """Where each tap of each output would look without an offset: rows and columns, (T, H_out, W_out) each."""
    stride, padding, dilation, _ = geometry

    def places(axis: int) -> Tensor:
        outputs = torch.arange(size[axis], device=x.device, dtype=x.dtype) * stride[axis] - padding[axis]
        taps = torch.arange(kernel_size[axis], device=x.device, dtype=x.dtype) * dilation[axis]
        return taps[:, None] + outputs

    rows, columns = places(0)[:, None, :, None], places(1)[None, :, None, :]
    return [grid.flatten(0, 1) for grid in torch.broadcast_tensors(rows, columns)]


def _bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read (N, C, H, W) at the places (N, D, T, H_out, W_out) of D blocks of channels, zeros beyond the border.

    Returns:
        (N, D, C/D, T, H_out, W_out).
    """
    high, wide = x.shape[2:]
    pixels = x.reshape(x.shape[0], rows.shape[1], -1, high * wide)
    top, left = rows.floor(), columns.floor()
    total = None
    for row, row_share in ((top, top + 1 - rows), (top + 1, rows - top)):
        for column, column_share in ((left, left + 1 - columns), (left + 1, columns - left)):
            share = row_share * column_share
            inside = (row >= 0) & (row < high) & (column >= 0) & (column < wide)
            index = (row.clamp(0, high - 1) * wide + column.clamp(0, wide - 1)).long()
            index = index.flatten(2)[:, :, None].expand(-1, -1, pixels.shape[2], -1)
            part = pixels.gather(3, index).unflatten(3, rows.shape[2:]) * (share * inside)[:, :, None]
            total = part if total is None else total + part
    assert total is not None
    return total


class DeformableConv2d(Conv2dBase):
    """A convolution whose taps look beside their places, each as far and as strongly as the image says.

        y[n, o, p] = bias[o] + sum_{i, t} weight[o, i, t] * mask[n, t, p] * x[n, i, p + t + offset[n, t, p]]

    Offsets (in pixels, read bilinearly) and masks (sigmoid) come from a convolution of the same geometry on the layer's
    input. It starts at zero, as published: with no offsets and masks of 1/2 the layer begins as half a standard
    convolution. It adds 3 * D * T * (C_in * T + 1) weights for T taps and D = `offset_groups`, the blocks of input
    channels with offsets of their own. As published, the weights of the offsets learn at `offset_rate`, a tenth, of the
    learning rate, whatever the optimizer: `optimizer_options` asks for it, and the optimizer holds them in groups of
    their own. The paper puts the layer into the last stages of a detector; here `conv.skip` says where it goes. Places
    are computed in float32, also under autocast: half precision has no digits left for a fraction of a pixel.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (C_out, C_in/groups, K_h, K_w) and `bias` (C_out,), drawn as `nn.Conv2d` would draw them; `offset_weight`
    (3 * D * T, C_in, K_h, K_w), the offsets before the masks, and `offset_bias` (3 * D * T,), zeros.

    Sources: Zhu, Hu, Lin and Dai, "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, arXiv
    1811.11168; Dai et al., "Deformable Convolutional Networks", ICCV 2017, arXiv 1703.06211.

    Raises:
        UnsupportedLayerError: The channels cannot be split into `offset_groups`.
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "deformable"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"sampled": sampled, "torchvision": torchvision}
    reference_implementation: ClassVar[str] = "sampled"

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "sampled",
        offset_groups: int = 1,
        offset_rate: float = 0.1,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        if self.in_channels % self._whole("offset_groups", offset_groups, key=" (conv.offset_groups)"):
            self._refuse(f"cannot split its channels into {offset_groups} offset groups (conv.offset_groups)")
        if not offset_rate > 0:
            raise UserError(f"deformable got offset_rate {offset_rate!r}; choose a number above 0 (conv.offset_rate)")
        self.optimizer_options = {name: {"lr_scale": offset_rate} for name in ("offset_weight", "offset_bias")}
        numbers = 3 * offset_groups * self.kernel_size[0] * self.kernel_size[1]
        self.weight = self._parameter(self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.offset_weight = self._parameter(numbers, self.in_channels, *self.kernel_size)
        self.offset_bias = self._parameter(numbers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the values that `nn.Conv2d` would draw, and start without offsets."""
        initialise_like_conv2d(self.weight, self.bias)
        nn.init.zeros_(self.offset_weight)
        nn.init.zeros_(self.offset_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        exact = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # there is none to disable on meta
            seen = self._pad(x).to(exact).contiguous()  # reading here and there is far slower from channels_last
            weight, offset_bias = self.offset_weight.to(exact), self.offset_bias.to(exact)
            steering = F.conv2d(seen, weight, offset_bias, *self._geometry.with_groups(1))
            offset, mask = steering.tensor_split([len(self.offset_bias) // 3 * 2], 1)
            bias = None if self.bias is None else self.bias.to(exact)
            y = self._function(seen, offset, mask.sigmoid(), self.weight.to(exact), bias, self._geometry)
        return y.to(x.dtype)

    def multiply_accumulates(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Give the four products of each sample, which is read bilinearly: neighbours by their shares of it.

        There are N * C_in * K_h * K_w * H_out * W_out samples.
        """
        images, _, high, wide = output_shape
        return 4 * images * self.in_channels * self.kernel_size[0] * self.kernel_size[1] * high * wide
