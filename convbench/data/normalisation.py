"""Mean and standard deviation per channel, exactly, in chunks."""

import logging
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from convbench.errors import UserError

_CHUNK_BYTES = 8 * 2**20
_SMALLEST_STD = 1e-6  # what is divided by less leaves the range in which float16 and float32 tell numbers apart

log = logging.getLogger("convbench")


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
    # A channel of one value has no deviation, whatever rounding makes of it.
    std = np.where((histogram > 0).sum(axis=1) == 1, 0, np.sqrt(np.maximum(variance, 0)))
    return tuple(mean.tolist()), tuple(std.tolist())


def check_statistics(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> None:
    """Refuse a mean or deviation that does not go with the images.

    Raises:
        UserError: if only one of them is given, their lengths are not the number of channels, or a value is no number
            on the scale of the images, from 0 to 1.
    """
    if mean is None and std is None:
        return
    if mean is None or std is None:
        raise UserError("data.mean and data.std go together: give both, or set both to null to compute them")
    for key, values in (("data.mean", mean), ("data.std", std)):
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise UserError(f"{key}={values} is no list: give a number for each channel, or null ({key})")
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"data.mean has {len(mean)} and data.std {len(std)} numbers for images of {channels} channel(s): "
            f"give {channels} each, or set both to null to compute them"
        )
    for key, values, lowest in (("data.mean", mean, 0.0), ("data.std", std, _SMALLEST_STD)):
        for channel, value in enumerate(values):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not lowest <= value <= 1:  # nan is not, either
                raise UserError(
                    f"{key}={list(values)} has {value} for channel {channel}: give numbers from {lowest:g} to 1, the "
                    f"scale on which white is 1 and not 255 ({key})"
                )


def given_or_computed(
    mean: Sequence[float] | None, std: Sequence[float] | None, images: Tensor, indices: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and std that were given, or else those of the training images; see `channel_statistics`.

    A channel of one value is divided by 1 instead of its deviation of 0, so that it becomes 0, and a line says so.
    """
    if mean is not None and std is not None:
        return tuple(mean), tuple(std)
    mean, std = channel_statistics(images, indices)
    constant = [str(channel) for channel, value in enumerate(std) if value == 0]
    if constant:
        log.warning(
            "all training images have one and the same value in channel %s of %d, which becomes 0: look at "
            "the images, or give data.mean and data.std",
            " and ".join(constant),
            len(std),
        )
    return mean, tuple(value or 1.0 for value in std)
