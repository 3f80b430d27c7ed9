"""A fixed, stratified split: the same images whatever the run's seed, the same share of every class."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from convbench.errors import UserError


def check_fraction(fraction: float, key: str) -> None:
    """Refuse a share of the images that is none or all of them.

    Args:
        fraction: the share, of 1.
        key: the configuration key that holds it, for the message.

    Raises:
        UserError: if the fraction does not lie between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise UserError(f"{key}={fraction} is not a share of the images: choose a number between 0 and 1")


def stratified_split(
    labels: Tensor, fractions: Sequence[float], seed: int, classes: Sequence[str], keys: Sequence[str]
) -> list[Tensor]:
    """Cut one part per fraction from every class; what is left over comes first.

    A part holds `fraction` of all images to the nearest one, and of every class to within one image, but never less
    than one. The draw of a class depends on the seed and on its own number of images only.

    Args:
        labels: int64 `(N,)`, from 0 to `len(classes) - 1`.
        fractions: shares of all images; together less than 1.
        seed: of this split (`data.split_seed`), not of the run.
        classes: class names, for the message.
        keys: the configuration key behind each fraction, for the message.

    Returns:
        `1 + len(fractions)` int64 tensors of sorted indices, disjoint, together `0..N-1`.

    Raises:
        UserError: if a fraction is outside (0, 1), they leave nothing over, or a class has fewer images than parts.
    """
    for fraction, key in zip(fractions, keys, strict=True):
        check_fraction(fraction, key)
    if sum(fractions) >= 1:
        shares = " and ".join(f"{key}={fraction}" for fraction, key in zip(fractions, keys, strict=True))
        raise UserError(f"{shares} leave no images to train on: together they have to stay below 1")
    counts = np.bincount(labels.numpy(), minlength=len(classes))
    parts = 1 + len(fractions)
    for name, count in zip(classes, counts, strict=True):
        if count < parts:
            raise UserError(
                f"class '{name}' has {count} image(s), too few to split into {parts} parts: "
                f"add images, or give each split a folder of its own instead of {' and '.join(keys)}"
            )

    shares_of_class = [_apportion(counts, fraction) for fraction in fractions]
    pieces: list[list[np.ndarray]] = [[] for _ in range(parts)]
    for label, count in enumerate(counts):
        # NumPy promises this stream of raw integers for good, which it does not for Generator.permutation.
        keys_of_rows = np.random.PCG64([seed, label]).random_raw(int(count))
        rows = np.flatnonzero(labels.numpy() == label)[np.argsort(keys_of_rows, kind="stable")]
        # Where the minimum of one image a part asks for more than a small class has, the rest keeps its one image.
        taken = 0
        for part, share in enumerate(shares_of_class, start=1):
            later = parts - 1 - part
            size = min(int(share[label]), int(count) - taken - later - 1)
            pieces[part].append(rows[taken : taken + size])
            taken += size
        pieces[0].append(rows[taken:])
    return [torch.from_numpy(np.sort(np.concatenate(piece))) for piece in pieces]


def _apportion(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Whole images per class whose sum is `fraction` of all of them (largest remainders), at least one each."""
    exact = counts * fraction
    whole = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return np.maximum(whole, 1)
