"""Which of two variants is better: the one place that decides it, for sentences, stars and files alike.

Two sources of chance have to be excluded, each by itself. *Seeds*: another seed would have given another accuracy; the
spread between runs tells how much. *Test images*: another draw of test images would have given another difference,
whatever the number of seeds, for all runs are tested on the same ones. How much that is depends on which images the
networks disagree on, and results hold no predictions; but there is a least: a difference of k images net is the less
likely by chance the fewer images are in dispute, and those are at least k, all of them won by the same variant. For
that case McNemar's exact test (1947; for comparing classifiers: Dietterich, 1998) gives p = 2 * 0.5**k. What it cannot
tell from chance, no pairing of the images can: fewer than six images net are never a finding.

The p of a verdict is the larger of the two (an intersection-union test: Berger, 1982), so its size is at most that of
the test over seeds. The interval has both as independent parts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, TypeVar

from scipy import stats

from convbench.report.measured import Measured
from convbench.report.statistics import DIGITS, SIGNIFICANT, Difference, difference, estimate, holm

ALL_PAIRS = 5  # variants up to which each is compared with each; beyond, with one
FEWEST_IMAGES = next(k for k in range(1, 100) if 2 * 0.5**k < SIGNIFICANT)
_NORMAL = float(stats.norm.ppf(1 - SIGNIFICANT / 2))

_T = TypeVar("_T")
Obstacle = Literal["one run", "no spread", "too few runs", "at chance"]


@dataclass(frozen=True)
class Verdict:
    """On two variants, first minus second.

    Attributes:
        seeds: what the spread between runs says.
        images: that both were measured on; None where that is not known, or is no accuracy.
        obstacle: why there is no verdict; None if there is one.
        half_width: of the 95 % interval of the difference, seeds and images together; None where the runs have no
            spread.
        p: that such a difference comes by chance: the larger one of seeds and images; None if there is no verdict.
        adjusted: the same, for several comparisons at once.
    """

    seeds: Difference
    images: int | None
    obstacle: Obstacle | None
    half_width: float | None
    p: float | None
    adjusted: float | None = None

    @property
    def low(self) -> float:
        """Of the interval."""
        return self.seeds.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Of the interval."""
        return self.seeds.mean + (self.half_width or 0.0)

    @property
    def is_real(self) -> bool:
        """Whether the first is higher or lower by more than chance."""
        is_clear = self.half_width is not None and self.half_width < abs(self.seeds.mean)
        return is_clear and self.adjusted is not None and self.adjusted < SIGNIFICANT


def judge(pairs: Sequence[tuple[Measured, Measured]], test: str = "t") -> list[Verdict]:
    """A verdict on each pair; all of them together are wrong in at most 5 % of reports (Holm's correction).

    Args:
        pairs: first and second.
        test: `t` or `wilcoxon`, see `statistics.difference`.
    """
    alone = [_judge_alone(first, second, test) for first, second in pairs]
    adjusted = iter(holm([verdict.p for verdict in alone if verdict.p is not None]))
    return [verdict if verdict.p is None else replace(verdict, adjusted=next(adjusted)) for verdict in alone]


def _judge_alone(first: Measured, second: Measured, test: str) -> Verdict:
    found = difference(first.values, second.values, test)
    images = None if first.images is None or second.images is None else min(first.images, second.images)
    obstacle = _obstacle(found)
    if is_at_chance(first) and is_at_chance(second):
        obstacle = "at chance"
    half_width, p = found.half_width, None if obstacle else found.p
    if images is not None:
        half_width = None if half_width is None else math.hypot(half_width, least_half_width(found.mean, images))
        p = None if p is None else max(p, least_p(found.mean, images))
    return Verdict(found, images, obstacle, half_width, p)


def _obstacle(found: Difference) -> Obstacle | None:
    if found.deviation is None:
        return "one run"
    if found.half_width is None:
        return "no spread"
    return "too few runs" if found.p is None else None


def is_at_chance(measured: Measured) -> bool:
    """Whether guessing would reach so high a mean accuracy in more than one of twenty draws of so many images.

    All runs saw the same images, so that these count once. False where chance or the number of images is not known.
    """
    if measured.images is None or measured.chance is None or not measured.values:
        return False
    correct = math.floor(_images(estimate(list(measured.values.values())).mean, measured.images))
    return float(stats.binom.sf(correct - 1, measured.images, measured.chance / 100)) >= SIGNIFICANT


def least_p(points: float, images: int) -> float:
    """The p of McNemar's exact test on a difference in percentage points, were all disputed images won by one side."""
    return min(1.0, 2 * 0.5 ** math.floor(_images(abs(points), images)))


def least_half_width(points: float, images: int) -> float:
    """Half the 95 % interval of a difference, in points, in the same case; with the correction for whole images."""
    return 100 * (_NORMAL * math.sqrt(_images(abs(points), images)) + 1) / images


def _images(points: float, images: int) -> float:
    return round(points * images / 100, DIGITS)


def pairs_of(variants: Sequence[_T]) -> list[tuple[_T, _T]]:
    """Which variants are compared: up to five each with each, more with the first one; the later one of a pair first.

    Later ones first, so that sentences read "dynamic is better than standard".
    """
    if len(variants) <= ALL_PAIRS:
        return [(other, one) for one, other in combinations(variants, 2)]
    return [(other, variants[0]) for other in variants[1:]]
