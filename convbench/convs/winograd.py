"""Winograd's minimal filtering F(2x2, 3x3): a 3x3 convolution with 2.25 times fewer multiplications.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308). A tile of 4x4
pixels d and a kernel g give 2x2 outputs

    Y = A^T [ (G g G^T) * (B^T d B) ] A

with 16 products, while the definition needs 4 outputs x 9 taps = 36. The transforms by A, B and G consist of sums,
differences and halves. For each of the 16 positions of a tile, the sum of products over channels is one matrix product.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.functional import PLAIN, Geometry, add_bias, as_autocast
from convbench.convs.shift_matmul import phases_together
from convbench.errors import UserError


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Convolve with 3x3 kernels, stride 1 and dilation 1, in tiles of 2x2 outputs.

    Args:
        x: Input, shape (N, C_in, H, W).
        weight: Weight, shape (C_out, C_in/groups, 3, 3).
        bias: Bias, shape (C_out,), or None.
        geometry: Geometry with stride 1 and dilation 1, and any padding and groups.

    Returns:
        The output, shape (N, C_out, H_out, W_out), channels_last in memory. Half precision is transformed in float32,
        because the differences lose significant digits, and multiplied in half precision.

    Raises:
        UserError: The kernel size, stride or dilation is not supported, or the shapes of input and weight do not agree.
    """
    reason = _unsupported_reason(weight.shape[2:], geometry.stride, geometry.dilation)
    if reason is not None:
        raise UserError(reason)
    height, width = geometry.checked_output_size(x, weight)
    groups = geometry.groups
    (ph, pw), lines, columns = geometry.padding, (height + 1) // 2, (width + 1) // 2  # number of tiles, rounded up
    x, weight = as_autocast(x, weight)
    transform_dtype, dtype = torch.promote_types(x.dtype, torch.float32), x.dtype

    right, bottom = 2 * columns + 2 - x.shape[3] - pw, 2 * lines + 2 - x.shape[2] - ph
    image = F.pad(x.to(transform_dtype).permute(0, 2, 3, 1), (0, 0, pw, right, ph, bottom))
    tiles = _transform_tiles(_transform_tiles(image, 1), 3).to(dtype)  # (4, 4, N, lines, columns, C_in)
    kernels = _transform_kernel(_transform_kernel(weight.to(transform_dtype), 2), 3).to(dtype)  # (4, 4, C_out, C_in/G)
    rows = tiles.flatten(2, 4).flatten(0, 1).unflatten(2, (groups, -1)).transpose(1, 2)
    products = rows @ kernels.flatten(0, 1).unflatten(1, (groups, -1)).mT  # (16, G, N * tiles, C_out/G)
    # Each transform moves its axis to the front. Tiles are (width, height) so far, and (height, width) after this line.
    y = _transform_outputs(_transform_outputs(products.to(transform_dtype).unflatten(0, (4, 4)), 0), 1)
    y = phases_together(y.unflatten(3, (x.shape[0], lines, columns)))[:, :, :height, :width]
    return add_bias(y, bias).to(dtype)


def why_not(conv: Any) -> str | None:
    """Return the reason why `winograd` cannot compute a convolution, or None if it can."""
    return _unsupported_reason(conv.kernel_size, conv.stride, conv.dilation)


def _unsupported_reason(kernel_size: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]) -> str | None:
    settings = {"stride": stride, "dilation": dilation}
    unsupported = [f"{name} {_format_pair(value)}" for name, value in settings.items() if value != (1, 1)]
    if tuple(kernel_size) == (3, 3) and not unsupported:
        return None
    given = f"{kernel_size[0]}x{kernel_size[1]}" + (f" with {' and '.join(unsupported)}" if unsupported else "")
    return f"winograd F(2x2,3x3) needs 3x3 kernels with stride 1 and dilation 1, not {given}"


def _format_pair(value: tuple[int, int]) -> str:
    return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"


def _transform_tiles(x: Tensor, dim: int) -> Tensor:
    """Unfold an axis into overlapping tiles of four pixels with step 2, and multiply by B^T; the tile comes first."""
    a, b, c, d = x.unfold(dim, 4, 2).unbind(-1)
    return torch.stack((a - c, b + c, c - b, b - d))


def _transform_kernel(weight: Tensor, dim: int) -> Tensor:
    """Multiply an axis of three taps by G; the new axis of four comes first."""
    a, b, c = weight.unbind(dim)
    return torch.stack((a, (a + b + c) / 2, (a - b + c) / 2, c))


def _transform_outputs(products: Tensor, dim: int) -> Tensor:
    """Multiply an axis of four by A^T; the new axis of two outputs comes first."""
    a, b, c, d = products.unbind(dim)
    return torch.stack((a + b + c, b - c - d))
