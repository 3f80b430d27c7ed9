"""Measurements of the runs of a variant: a number for each seed, and for accuracies the number of images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from convbench.report.variants import Variant
from convbench.run_folders.record import RunRecord

SPLITS = {"train": "training", "val": "validation", "test": "test"}  # name in results.json -> name in the report


@dataclass(frozen=True)
class Measured:
    """A number for each run of a variant.

    Attributes:
        values: seed -> number; accuracies are in percent.
        images: the number of images on which an accuracy was measured, the smallest of all runs; None for other
            quantities, and if no run records it.
        chance: the accuracy of guessing, in percent; None if it is not known.
    """

    values: Mapping[int, float]
    images: int | None = None
    chance: float | None = None


def accuracies(variant: Variant, score: str) -> Measured:
    """Accuracies of the finished runs of a variant in percent; runs without an accuracy from 0 to 1 are left out.

    An accuracy is computed from the number of correct images and the number of images. A run without the number of
    correct images gets it from its accuracy, by rounding. The accuracy of an older run, which does not record the
    number of images, is used unchanged.

    Args:
        variant: the variant.
        score: `test`, `val`, `best.test` or `best.val`.
    """
    values, images = {}, []
    for seed, run in variant.finished.items():
        share = run.score(score, "accuracy")
        if not is_valid_accuracy(share):
            continue
        count = image_count(run, score)
        if count is not None:
            images.append(count)
            share = (run.score(score, "correct") or round(share * count)) / count
        values[seed] = 100 * share
    classes = max((len(run.classes) for run in variant.finished.values()), default=0)
    return Measured(values, min(images, default=None), 100 / classes if classes else None)


def is_valid_accuracy(value: Any) -> TypeGuard[float]:
    """Whether a value can be an accuracy: a finite number from 0 to 1."""
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1


def image_count(run: RunRecord, score: str) -> int | None:
    """The number of images on which a score was measured; None for older runs, which do not record it."""
    split = score.rpartition(".")[2]
    count = run.score(score, "images") or run.images(split)
    return int(count) if count else None


def compared_split(variants: Sequence[Variant]) -> str:
    """The split whose accuracy is compared: `test`, or `val` if no run has a test accuracy."""
    return "test" if any(accuracies(variant, "test").values for variant in variants) else "val"
