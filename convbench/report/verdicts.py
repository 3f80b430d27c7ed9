"""Verdicts on which of two variants is better. Sentences, stars and files all use this module.

Two sources of chance have to be excluded, each by itself. *Seeds*: another seed would have given another accuracy. The
spread between runs tells how much. *Test images*: another draw of test images would have given another difference, for
any number of seeds, as all runs are tested on the same images. By how much depends on the images on which the networks
disagree, and results hold no predictions. But there is a lower bound. A net difference of k images is the less likely
by chance, the fewer images the networks disagree on. These are at least k images, and exactly k if the same variant is
right on all of them. For this case McNemar's exact test (1947; for comparing classifiers: Dietterich, 1998) gives
p = 2 * 0.5**k. No other case gives a smaller p, so a net difference of fewer than six images is never a finding.

The p of a verdict is the larger one of the two (an intersection-union test: Berger, 1982), so its type I error rate is
at most that of the test over seeds. The confidence interval treats the two sources as independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, TypeVar

from scipy import stats

from convbench.report.measured import Measured
from convbench.report.statistics import DIGITS, SIGNIFICANT, Difference, difference, estimate, holm

ALL_PAIRS = 5  # maximum number of variants for which all pairs are compared
MIN_IMAGES = next(k for k in range(1, 100) if 2 * 0.5**k < SIGNIFICANT)  # smallest significant net difference
_NORMAL_QUANTILE = float(stats.norm.ppf(1 - SIGNIFICANT / 2))

_T = TypeVar("_T")
Obstacle = Literal["one run", "no spread", "too few runs", "at chance"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on the difference between two variants, first minus second.

    Attributes:
        seeds: the difference as measured over seeds.
        images: the number of images on which both were tested; None if it is not known or the number is no accuracy.
        obstacle: why there is no verdict; None if there is one.
        half_width: half the width of the 95 % confidence interval of the difference, over seeds and images; None if
            `seeds.half_width` is None.
        p: the larger p-value of seeds and images; None if there is no verdict.
        adjusted: `p`, adjusted for several comparisons; None if there is no verdict.
    """

    seeds: Difference
    images: int | None
    obstacle: Obstacle | None
    half_width: float | None
    p: float | None
    adjusted: float | None = None

    @property
    def low(self) -> float:
        """The lower end of the confidence interval, or the mean if there is no interval."""
        return self.seeds.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """The upper end of the confidence interval, or the mean if there is no interval."""
        return self.seeds.mean + (self.half_width or 0.0)

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant: the interval excludes 0 and the adjusted p-value is below 5 %."""
        is_clear = self.half_width is not None and self.half_width < abs(self.seeds.mean)
        return is_clear and self.adjusted is not None and self.adjusted < SIGNIFICANT


def judge(pairs: Sequence[tuple[Measured, Measured]], test: str = "t") -> list[Verdict]:
    """The verdict on each pair. P-values are adjusted so that in at most 5 % of reports any verdict is wrong (Holm).

    Args:
        pairs: the measurements of the first and the second variant of each pair.
        test: `t` or `wilcoxon`, see `statistics.difference`.
    """
    unadjusted = [_judge_pair(first, second, test) for first, second in pairs]
    adjusted = iter(holm([verdict.p for verdict in unadjusted if verdict.p is not None]))
    return [verdict if verdict.p is None else replace(verdict, adjusted=next(adjusted)) for verdict in unadjusted]


def _judge_pair(first: Measured, second: Measured, test: str) -> Verdict:
    seeds = difference(first.values, second.values, test)
    images = None if first.images is None or second.images is None else min(first.images, second.images)
    obstacle = _obstacle(seeds)
    if is_at_chance(first) and is_at_chance(second):
        obstacle = "at chance"
    half_width, p = seeds.half_width, None if obstacle else seeds.p
    if images is not None:
        half_width = None if half_width is None else math.hypot(half_width, min_half_width(seeds.mean, images))
        p = None if p is None else max(p, min_p(seeds.mean, images))
    return Verdict(seeds, images, obstacle, half_width, p)


def _obstacle(seeds: Difference) -> Obstacle | None:
    if seeds.deviation is None:
        return "one run"
    if seeds.half_width is None:
        return "no spread"
    return "too few runs" if seeds.p is None else None


def is_at_chance(measured: Measured) -> bool:
    """Whether the mean accuracy is not significantly above that of guessing, by a one-sided binomial test at 5 %.

    All runs are tested on the same images, so each image counts once. False if the accuracy of guessing or the number
    of images is not known.
    """
    if measured.images is None or measured.chance is None or not measured.values:
        return False
    correct = math.floor(_image_count(estimate(list(measured.values.values())).mean, measured.images))
    return float(stats.binom.sf(correct - 1, measured.images, measured.chance / 100)) >= SIGNIFICANT


def min_p(points: float, images: int) -> float:
    """The smallest possible p-value of McNemar's exact test on a difference in accuracy.

    It is reached if one variant is right on all images on which the two disagree.

    Args:
        points: the difference in percentage points.
        images: the number of test images.
    """
    return min(1.0, 2 * 0.5 ** math.floor(_image_count(abs(points), images)))


def min_half_width(points: float, images: int) -> float:
    """Half the 95 % confidence interval of a difference in accuracy, in percentage points, in the case of `min_p`.

    It includes the continuity correction.

    Args:
        points: the difference in percentage points.
        images: the number of test images.
    """
    return 100 * (_NORMAL_QUANTILE * math.sqrt(_image_count(abs(points), images)) + 1) / images


def _image_count(points: float, images: int) -> float:
    """The number of images that corresponds to a number of percentage points."""
    return round(points * images / 100, DIGITS)


def pairs_of(variants: Sequence[_T]) -> list[tuple[_T, _T]]:
    """The pairs of variants to compare: all pairs of up to five variants, otherwise each variant with the first one.

    The later variant of a pair comes first, so that sentences read "dynamic is better than standard".
    """
    if len(variants) <= ALL_PAIRS:
        return [(later, earlier) for earlier, later in combinations(variants, 2)]
    return [(later, variants[0]) for later in variants[1:]]
