"""Kernels and feature maps as grids of enlarged tiles: uint8 images `(C, H, W)`."""

import torch
import torch.nn.functional as F
from torch import Tensor

_COLUMNS = 8
_MAX_TILES = 64
_TILE = 64  # size to which a small tile is enlarged, in pixels
_BORDER = 2  # width of the white border of a tile, in pixels


def kernel_grid(kernels: Tensor) -> Tensor:
    """A grid with one tile for each kernel, scaled by its largest absolute weight; medium grey is 0.

    Args:
        kernels: Kernels, `(n, C, K_h, K_w)`. Three channels are shown as RGB colours. With another number of channels,
            each channel of each kernel has its own tile.
    """
    if kernels.shape[1] not in (1, 3):
        kernels = kernels.flatten(0, 1)[:, None]
    largest = kernels.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return _grid(0.5 + 0.5 * kernels / largest)


def map_grid(maps: Tensor) -> Tensor:
    """A grid with one tile for each feature map; black is the smallest value of the map, and white the largest.

    Args:
        maps: Feature maps, `(n, H, W)`.
    """
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return _grid(((maps - low) / (high - low).clamp_min(1e-12))[:, None])


def enlarged(image: Tensor, size: int = 2 * _TILE) -> Tensor:
    """Enlarge an image by a whole factor, without interpolation.

    Args:
        image: An image, `(C, H, W)`.
        size: Approximate length of the longer side of the result, in pixels. A larger image keeps its size.
    """
    factor = max(1, round(size / max(image.shape[1:])))
    return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def _grid(tiles: Tensor) -> Tensor:
    """Arrange tiles `(n, C, h, w)` with values from 0 to 1 in rows; the last row is padded with white tiles."""
    tiles = (255 * tiles[:_MAX_TILES]).round().clamp(0, 255).byte()
    tiles = torch.stack([enlarged(tile, _TILE) for tile in tiles])
    tiles = F.pad(tiles, (_BORDER,) * 4, value=255)
    columns = min(_COLUMNS, len(tiles))
    tiles = F.pad(tiles, (0,) * 7 + (-len(tiles) % columns,), value=255)
    rows = tiles.unflatten(0, (-1, columns))  # (rows, columns, C, h, w)
    return rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
