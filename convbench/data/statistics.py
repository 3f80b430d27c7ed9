"""Mean and standard deviation per channel, exactly, in chunks."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from convbench.errors import UserError

_CHUNK_BYTES = 8 * 2**20


def channel_statistics(images: Tensor, indices: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over all pixels of all images, in the 0..1 scale.

    Counts how often each of the 256 values occurs, so the result is exact whatever the order and number of images,
    and no float copy of the images is made.

    Args:
        images: uint8 `(N, C, H, W)`.
        indices: int64 `(n,)`, the images that count.

    Returns:
        `(mean, std)`, C numbers each; std is that of the population (divided by the number of pixels).
    """
    total, channels = len(indices), images.shape[1]
    step = max(1, _CHUNK_BYTES // max(1, images[0].numel()))
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, total, step):
        rows = slice(start, start + step)
        chunk = images[indices[rows]].numpy()
        for channel in range(channels):
            histogram[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)

    values = np.arange(256) / 255
    pixels = histogram.sum(axis=1)
    mean = histogram @ values / pixels
    variance = histogram @ values**2 / pixels - mean**2
    std = np.sqrt(np.maximum(variance, 0))
    return tuple(mean.tolist()), tuple(std.tolist())


def check_statistics(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> None:
    """Refuse a mean or deviation that does not go with the images.

    Raises:
        UserError: if only one of them is given, their lengths are not the number of channels, or a std is not positive.
    """
    if mean is None and std is None:
        return
    if mean is None or std is None:
        raise UserError("data.mean and data.std go together: give both, or set both to null to compute them")
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"data.mean has {len(mean)} and data.std {len(std)} numbers for images of {channels} channel(s): "
            f"give {channels} each, or set both to null to compute them"
        )
    if min(std) <= 0:
        raise UserError(f"data.std={list(std)} has to be above 0 in every channel")


def given_or_computed(
    mean: Sequence[float] | None, std: Sequence[float] | None, images: Tensor, indices: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and std that were given, or else those of the training images; see `channel_statistics`."""
    if mean is None or std is None:
        return channel_statistics(images, indices)
    return tuple(mean), tuple(std)
