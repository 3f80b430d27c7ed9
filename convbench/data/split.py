"""Stratified split of a data set: the same fraction of every class, independent of the seed of the run."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from convbench.errors import UserError


def check_fraction(fraction: float, key: str) -> None:
    """Check that a fraction of the images is between 0 and 1, both excluded.

    Args:
        fraction: fraction of all images.
        key: configuration key of the fraction, for the message.

    Raises:
        UserError: if the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise UserError(f"{key}={fraction} is not a fraction of the images: choose a number between 0 and 1 ({key})")


def stratified_split(
    labels: Tensor, fractions: Sequence[float], seed: int, classes: Sequence[str], keys: Sequence[str]
) -> list[Tensor]:
    """Draw one part per fraction at random from every class; the first part contains the remaining images.

    The size of a part is `fraction` of all images, rounded to the nearest integer. For each class it differs by less
    than one image from this fraction, but is at least one. The draw for a class depends only on the seed, the label and
    the number of its images.

    Args:
        labels: int64 `(N,)`, from 0 to `len(classes) - 1`.
        fractions: fractions of all images; their sum is less than 1.
        seed: seed of the split (`data.split_seed`), which is not the seed of the run.
        classes: class names, for the message.
        keys: configuration key of each fraction, for the message.

    Returns:
        `1 + len(fractions)` disjoint int64 tensors of sorted indices, which together are `0..N-1`.

    Raises:
        UserError: if a fraction is outside (0, 1), if the fractions leave no images for the first part, or if a class
            has fewer images than there are parts.
    """
    for fraction, key in zip(fractions, keys, strict=True):
        check_fraction(fraction, key)
    if sum(fractions) >= 1:
        given = " and ".join(f"{key}={fraction}" for fraction, key in zip(fractions, keys, strict=True))
        raise UserError(f"{given} leave no training images: their sum must be less than 1 ({', '.join(keys)})")
    counts = np.bincount(labels.numpy(), minlength=len(classes))
    parts = 1 + len(fractions)
    for name, count in zip(classes, counts, strict=True):
        if count < parts:
            raise UserError(
                f"class '{name}' has {count} image(s), too few for a split into {parts} parts: add images, or create a "
                f"folder for each split ({', '.join(keys)})"
            )

    sizes = [_apportion(counts, fraction) for fraction in fractions]
    pieces: list[list[np.ndarray]] = [[] for _ in range(parts)]
    for label, count in enumerate(counts):
        # NumPy guarantees the raw integers of PCG64 for all versions, but not the result of Generator.permutation.
        sort_keys = np.random.PCG64([seed, label]).random_raw(int(count))
        rows = np.flatnonzero(labels.numpy() == label)[np.argsort(sort_keys, kind="stable")]
        # The minimum of one image per part can exceed the size of a small class: leave one for each remaining part.
        taken = 0
        for part, class_sizes in enumerate(sizes, start=1):
            later = parts - 1 - part
            size = min(int(class_sizes[label]), int(count) - taken - later - 1)
            pieces[part].append(rows[taken : taken + size])
            taken += size
        pieces[0].append(rows[taken:])
    return [torch.from_numpy(np.sort(np.concatenate(piece))) for piece in pieces]


def _apportion(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Number of images per class, at least one, whose sum is `fraction` of all (largest remainder method)."""
    exact = counts * fraction
    rounded = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(rounded.sum())
    rounded[np.argsort(rounded - exact, kind="stable")[:missing]] += 1
    return np.maximum(rounded, 1)
