"""The deformable convolution: the sampling position of every kernel tap is computed from the input."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.errors import UserError

# Shapes below: D offset groups, T = K_h * K_w taps, L = H_out * W_out. All implementations take x (N, C_in, H, W),
# offset (N, D * T * 2, H_out, W_out) with the row before the column, mask (N, D * T, H_out, W_out),
# weight (C_out, C_in/G, K_h, K_w) and bias (C_out,) or None. They return (N, C_out, H_out, W_out).


def torchvision(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Call the operator of torchvision, which infers the groups from the shape of the weight."""
    return deform_conv2d(x, offset, weight, bias, geometry.stride, geometry.padding, geometry.dilation, mask)


def sampled(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Sample the image at the position of each tap by bilinear interpolation, then take one matrix product."""
    size, taps, groups = offset.shape[2:], weight.shape[2] * weight.shape[3], geometry.groups
    rows, columns = _regular_positions(x, weight.shape[2:], size, geometry)  # (T, H_out, W_out) each
    offset = offset.unflatten(1, (-1, taps, 2))  # (N, D, T, 2, H_out, W_out)
    samples = _bilinear(x, rows + offset[:, :, :, 0], columns + offset[:, :, :, 1])
    samples = samples * mask.unflatten(1, (-1, 1, taps))  # (N, D, C_in/D, T, H_out, W_out)
    patches = samples.flatten(1, 2).flatten(3).unflatten(1, (groups, -1)).flatten(2, 3)  # (N, G, C_in/G * T, L)
    y = (weight.flatten(1).unflatten(0, (groups, -1)) @ patches).flatten(1, 2).unflatten(2, size)
    return y if bias is None else y + bias[:, None, None]


def _regular_positions(x: Tensor, kernel_size: Sequence[int], size: Sequence[int], geometry: Geometry) -> list[Tensor]:
    """Return the sampling positions without offsets: rows and columns, each (T, H_out, W_out)."""
    stride, padding, dilation, _ = geometry

    def positions(axis: int) -> Tensor:
        outputs = torch.arange(size[axis], device=x.device, dtype=x.dtype) * stride[axis] - padding[axis]
        taps = torch.arange(kernel_size[axis], device=x.device, dtype=x.dtype) * dilation[axis]
        return taps[:, None] + outputs

    rows, columns = positions(0)[:, None, :, None], positions(1)[None, :, None, :]
    return [grid.flatten(0, 1) for grid in torch.broadcast_tensors(rows, columns)]


def _bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate an image bilinearly, with zeros outside of it.

    Args:
        x: Images, shape (N, C, H, W).
        rows: Row of each sample for each of the D offset groups, shape (N, D, T, H_out, W_out).
        columns: Column of each sample, of the same shape.

    Returns:
        The samples, shape (N, D, C/D, T, H_out, W_out).
    """
    height, width = x.shape[2:]
    pixels = x.reshape(x.shape[0], rows.shape[1], -1, height * width)
    top, left = rows.floor(), columns.floor()
    total = None
    for row, row_weight in ((top, top + 1 - rows), (top + 1, rows - top)):
        for column, column_weight in ((left, left + 1 - columns), (left + 1, columns - left)):
            weight = row_weight * column_weight
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
            index = index.flatten(2)[:, :, None].expand(-1, -1, pixels.shape[2], -1)
            part = pixels.gather(3, index).unflatten(3, rows.shape[2:]) * (weight * inside)[:, :, None]
            total = part if total is None else total + part
    assert total is not None
    return total


class DeformableConv2d(Conv2dBase):
    """A convolution whose taps have learned offsets and modulation masks that depend on the input.

        y[n, o, p] = bias[o] + sum_{i, t} weight[o, i, t] * mask[n, t, p] * x[n, i, p + t + offset[n, t, p]]

    A second convolution of the same geometry computes the offsets (in pixels, with bilinear interpolation) and the
    masks (after a sigmoid) from the input of the layer. Its weights start at zero, as published: all offsets are 0 and
    all masks 1/2, so the layer starts as a standard convolution whose outputs are halved. It adds
    3 * D * T * (C_in * T + 1) weights for T taps and D = `offset_groups` groups of input channels, each of which has
    its own offsets.

    As published, the weights of the offsets are trained with the learning rate times `offset_rate`, a tenth, with any
    optimizer: `optimizer_options` declares this factor, and the optimizer keeps these weights in separate parameter
    groups. The paper uses the layer in the last stages of a detector; here `conv.skip` selects the layers. Sampling
    positions are computed in float32, also under autocast, because half precision cannot resolve fractions of a pixel.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (C_out, C_in/groups, K_h, K_w) and `bias` (C_out,), initialised as in `nn.Conv2d`; `offset_weight`
    (3 * D * T, C_in, K_h, K_w), with the offsets before the masks, and `offset_bias` (3 * D * T,), both zero.

    Sources: Zhu, Hu, Lin and Dai, "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, arXiv
    1811.11168; Dai et al., "Deformable Convolutional Networks", ICCV 2017, arXiv 1703.06211.

    Raises:
        UnsupportedLayerError: The channels cannot be split into `offset_groups`.
        UserError: An argument is out of range or incompatible with another argument.
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
        if self.in_channels % self._checked_int("offset_groups", offset_groups, key=" (conv.offset_groups)"):
            self._refuse(f"cannot split its channels into {offset_groups} offset groups (conv.offset_groups)")
        if not offset_rate > 0:
            raise UserError(f"deformable got offset_rate {offset_rate!r}; choose a number above 0 (conv.offset_rate)")
        self.optimizer_options = {name: {"lr_scale": offset_rate} for name in ("offset_weight", "offset_bias")}
        offset_channels = 3 * offset_groups * self.kernel_size[0] * self.kernel_size[1]
        self.weight = self._parameter(self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.offset_weight = self._parameter(offset_channels, self.in_channels, *self.kernel_size)
        self.offset_bias = self._parameter(offset_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise `weight` and `bias` as `nn.Conv2d` does, and the offset parameters with zeros."""
        initialise_like_conv2d(self.weight, self.bias)
        nn.init.zeros_(self.offset_weight)
        nn.init.zeros_(self.offset_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # the meta device has no autocast
            padded = self._pad(x).to(dtype).contiguous()  # gathering pixels is far slower in channels_last
            weight, offset_bias = self.offset_weight.to(dtype), self.offset_bias.to(dtype)
            offset_and_mask = F.conv2d(padded, weight, offset_bias, *self._geometry.with_groups(1))
            offset, mask = offset_and_mask.tensor_split([len(self.offset_bias) // 3 * 2], 1)
            bias = None if self.bias is None else self.bias.to(dtype)
            y = self._function(padded, offset, mask.sigmoid(), self.weight.to(dtype), bias, self._geometry)
        return y.to(x.dtype)

    def multiply_accumulates(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Return the operations of the bilinear interpolation, four products for each sample.

        There are N * C_in * K_h * K_w * H_out * W_out samples.
        """
        images, _, height, width = output_shape
        return 4 * images * self.in_channels * self.kernel_size[0] * self.kernel_size[1] * height * width
