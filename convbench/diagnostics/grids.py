"""Kernels and feature maps as pictures: uint8 `(C, H, W)`, large enough to see."""

import torch
import torch.nn.functional as F
from torch import Tensor

_COLUMNS = 8
_MOST = 64  # tiles of a picture
_TILE = 64  # pixels to which a small tile is enlarged
_GAP = 2  # pixels of white between tiles


def kernel_grid(kernels: Tensor) -> Tensor:
    """Kernels `(n, C, K_h, K_w)`, a tile each: grey is 0, each kernel scaled by its largest weight.

    Three channels are shown as colours; of another number each is a tile of its own.
    """
    if kernels.shape[1] not in (1, 3):
        kernels = kernels.flatten(0, 1)[:, None]
    largest = kernels.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return _grid(0.5 + 0.5 * kernels / largest)


def map_grid(maps: Tensor) -> Tensor:
    """Feature maps `(n, H, W)`, a tile each: from black, the smallest value of the map, to white, the largest."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return _grid(((maps - low) / (high - low).clamp_min(1e-12))[:, None])


def enlarged(image: Tensor, size: int = 2 * _TILE) -> Tensor:
    """An image `(C, H, W)` whose pixels became squares, about `size` pixels on its longer side, or more."""
    factor = max(1, round(size / max(image.shape[1:])))
    return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def _grid(tiles: Tensor) -> Tensor:
    """Arrange tiles `(n, C, h, w)`, from 0 to 1, in rows; the last row is filled up with white."""
    tiles = (255 * tiles[:_MOST]).round().clamp(0, 255).byte()
    tiles = torch.stack([enlarged(tile, _TILE) for tile in tiles])
    tiles = F.pad(tiles, (_GAP,) * 4, value=255)
    columns = min(_COLUMNS, len(tiles))
    tiles = F.pad(tiles, (0,) * 7 + (-len(tiles) % columns,), value=255)
    rows = tiles.unflatten(0, (-1, columns))  # (rows, columns, C, h, w)
    return rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
