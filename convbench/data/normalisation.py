"""Mean and standard deviation of the images per channel, computed exactly and in chunks."""

import logging
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from convbench.errors import UserError

_CHUNK_BYTES = 8 * 2**20
_SMALLEST_STD = 1e-6  # dividing by a smaller value leaves the range in which float16 and float32 are precise

log = logging.getLogger("convbench")


def channel_statistics(images: Tensor, indices: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over all pixels of the images, for pixel values from 0 to 1.

    The function computes a histogram of the 256 values. The result is therefore exact, whatever the order and number of
    images, and no floating-point copy of the images is made.

    Args:
        images: uint8 `(N, C, H, W)`.
        indices: int64 `(n,)`, rows of the images to include.

    Returns:
        `(mean, std)`, C numbers each; std is the population standard deviation (divided by the number of pixels).
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
    # A constant channel has a standard deviation of 0; rounding errors could give another value.
    std = np.where((histogram > 0).sum(axis=1) == 1, 0, np.sqrt(np.maximum(variance, 0)))
    return tuple(mean.tolist()), tuple(std.tolist())


def check_statistics(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> None:
    """Check the mean and standard deviation per channel that a user gave.

    Raises:
        UserError: if only one of them is given, if their lengths differ from the number of channels, or if a value is
            not a number from 0 to 1.
    """
    if mean is None and std is None:
        return
    if mean is None or std is None:
        raise UserError(
            "only one of mean and std is given: give both, or set both to null to compute them (data.mean, data.std)"
        )
    for key, values in (("data.mean", mean), ("data.std", std)):
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise UserError(f"{key}={values} is not a list: give one number per channel, or null ({key})")
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"mean has {len(mean)} and std has {len(std)} numbers, but the images have {channels} channel(s): give "
            f"{channels} each, or set both to null to compute them (data.mean, data.std)"
        )
    for key, values, lowest in (("data.mean", mean, 0.0), ("data.std", std, _SMALLEST_STD)):
        for channel, value in enumerate(values):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not lowest <= value <= 1:  # False for nan
                raise UserError(
                    f"{key}={list(values)} has {value} for channel {channel}: give numbers from {lowest:g} to 1, "
                    f"where white is 1 and not 255 ({key})"
                )


def given_or_computed(
    mean: Sequence[float] | None, std: Sequence[float] | None, images: Tensor, indices: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that the user gave, or else those that `channel_statistics` computes from the training images.

    The std of a constant channel is replaced by 1, so that normalisation maps it to 0, and a warning is logged.
    """
    if mean is not None and std is not None:
        return tuple(mean), tuple(std)
    mean, std = channel_statistics(images, indices)
    constant = [str(channel) for channel, value in enumerate(std) if value == 0]
    if constant:
        log.warning(
            "all pixels of the training images have the same value in channel %s of %d, which is normalised to 0: "
            "check the images, or give data.mean and data.std",
            " and ".join(constant),
            len(std),
        )
    return mean, tuple(value or 1.0 for value in std)
