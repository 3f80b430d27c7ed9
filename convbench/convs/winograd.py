"""Winograd's minimal filtering F(2x2, 3x3): a 3x3 convolution with 2.25 times fewer multiplications.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308). A tile of 4x4
pixels d and a kernel g give 2x2 outputs

    Y = A^T [ (G g G^T) * (B^T d B) ] A

with 16 products where the definition takes 4 outputs x 9 taps = 36. The transforms by A, B and G are sums, differences
and halves, and the products at each of the 16 places of a tile, summed over channels, are one matrix product.
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
    """Convolve 3x3 with stride 1 and dilation 1, a tile of 2x2 outputs at a time.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in/groups, 3, 3).
        bias: (C_out,) or none.
        geometry: Stride and dilation 1; any padding and groups.

    Returns:
        (N, C_out, H_out, W_out), channels_last in memory. Half precision is transformed in float32, as differences
        lose digits that it does not have, and multiplied in half precision.

    Raises:
        UserError: Another kernel, stride or dilation; or the input does not go with the weight.
    """
    reason = _why_not(weight.shape[2:], geometry.stride, geometry.dilation)
    if reason is not None:
        raise UserError(reason)
    high, wide = geometry.checked_output_size(x, weight)
    groups = geometry.groups
    (ph, pw), lines, columns = geometry.padding, (high + 1) // 2, (wide + 1) // 2  # of tiles, rounded up
    x, weight = as_autocast(x, weight)
    exact, dtype = torch.promote_types(x.dtype, torch.float32), x.dtype

    right, bottom = 2 * columns + 2 - x.shape[3] - pw, 2 * lines + 2 - x.shape[2] - ph
    image = F.pad(x.to(exact).permute(0, 2, 3, 1), (0, 0, pw, right, ph, bottom))
    tiles = _transform_tiles(_transform_tiles(image, 1), 3).to(dtype)  # (4, 4, N, lines, columns, C_in)
    kernels = _transform_kernel(_transform_kernel(weight.to(exact), 2), 3).to(dtype)  # (4, 4, C_out, C_in/G)
    rows = tiles.flatten(2, 4).flatten(0, 1).unflatten(2, (groups, -1)).transpose(1, 2)
    products = rows @ kernels.flatten(0, 1).unflatten(1, (groups, -1)).mT  # (16, G, N * tiles, C_out/G)
    # Each transform puts the tile's other axis first: all so far is (width, height), and the outputs are not.
    y = _transform_outputs(_transform_outputs(products.to(exact).unflatten(0, (4, 4)), 0), 1)
    y = phases_together(y.unflatten(3, (x.shape[0], lines, columns)))[:, :, :high, :wide]
    return add_bias(y, bias).to(dtype)


def why_not(conv: Any) -> str | None:
    """Say why `winograd` cannot compute a convolution, or None if it can."""
    return _why_not(conv.kernel_size, conv.stride, conv.dilation)


def _why_not(kernel_size: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]) -> str | None:
    steps = {"stride": stride, "dilation": dilation}
    others = [f"{name} {_short(step)}" for name, step in steps.items() if step != (1, 1)]
    if tuple(kernel_size) == (3, 3) and not others:
        return None
    given = f"{kernel_size[0]}x{kernel_size[1]}" + (f" with {' and '.join(others)}" if others else "")
    return f"winograd F(2x2,3x3) takes 3x3 kernels with stride 1 and dilation 1, not {given}"


def _short(step: tuple[int, int]) -> str:
    return str(step[0]) if step[0] == step[1] else f"{step[0]}x{step[1]}"


def _transform_tiles(x: Tensor, dim: int) -> Tensor:
    """Cut an axis into overlapping fours, two apart, and multiply them by B^T; the four come first."""
    a, b, c, d = x.unfold(dim, 4, 2).unbind(-1)
    return torch.stack((a - c, b + c, c - b, b - d))


def _transform_kernel(weight: Tensor, dim: int) -> Tensor:
    """Multiply an axis of three taps by G; the four that come of it come first."""
    a, b, c = weight.unbind(dim)
    return torch.stack((a, (a + b + c) / 2, (a - b + c) / 2, c))


def _transform_outputs(products: Tensor, dim: int) -> Tensor:
    """Multiply an axis of four by A^T; the two outputs come first."""
    a, b, c, d = products.unbind(dim)
    return torch.stack((a + b + c, b - c - d))
