"""What the runs of a variant measured: one number for each seed, and for accuracies on how many images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from convbench.report.variants import Variant
from convbench.run_folders.record import RunRecord

SPLITS = {"train": "training", "val": "validation", "test": "test"}  # as results.json and as a person calls them


@dataclass(frozen=True)
class Measured:
    """A number of each run.

    Attributes:
        values: seed -> number; an accuracy in percent.
        images: of an accuracy, on how many it was measured, the fewest of all runs; None for what is no accuracy and
            for runs that do not say it.
        chance: accuracy in percent that guessing reaches; None where that is not known.
    """

    values: Mapping[int, float]
    images: int | None = None
    chance: float | None = None


def accuracies(variant: Variant, score: str) -> Measured:
    """Accuracies in percent; runs left out that have none from 0 to 1.

    They are counts of images: what a run says of them is taken, or worked out from its accuracy and the size of the
    split. Accuracies of older runs, of which the size is not known, are taken as they are.

    Args:
        variant: whose finished runs are asked.
        score: `test`, `val`, `best.test` or `best.val`.
    """
    values, images = {}, []
    for seed, run in variant.finished.items():
        share = run.score(score, "accuracy")
        if not is_share(share):
            continue
        count = images_of(run, score)
        if count is not None:
            images.append(count)
            share = (run.score(score, "correct") or round(share * count)) / count
        values[seed] = 100 * share
    classes = max((len(run.classes) for run in variant.finished.values()), default=0)
    return Measured(values, min(images, default=None), 100 / classes if classes else None)


def is_share(value: Any) -> TypeGuard[float]:
    """Whether it can be an accuracy."""
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1


def images_of(run: RunRecord, score: str) -> int | None:
    """Of the split of a score, as the score itself or the run says; None for a run that says neither."""
    split = score.rpartition(".")[2]
    count = run.score(score, "images") or run.images(split)
    return int(count) if count else None


def compared_split(variants: Sequence[Variant]) -> str:
    """The split whose accuracy is compared: `test`, or `val` where no run has a labelled test set."""
    return "test" if any(accuracies(variant, "test").values for variant in variants) else "val"
