"""What can be said of the difference between two variants: intervals, tests, and how many seeds it would take.

Runs are paired by seed: the same seed gives two convolutions the same order of images, the same augmentation and, where
shapes agree, the same initial weights, so what these do to a run cancels out in the difference.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from scipy import stats

LEVEL = 0.95
_POWER = 0.8  # the usual chance of seeing what is there, by which the number of seeds is planned
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        n: runs.
        mean: of them.
        deviation: standard deviation between runs; None for one run.
        half_width: of the 95 % interval of the mean, by Student's t; None for one run.
    """

    n: int
    mean: float
    deviation: float | None
    half_width: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, spread and interval of at least one number."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Estimate(n, mean, None, None)
    # statistics.stdev computes in fractions, exactly and a hundred times as slowly
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, deviation, _quantile(n - 1) * deviation / math.sqrt(n))


@dataclass(frozen=True)
class Difference:
    """Between two variants, first minus second.

    Attributes:
        n: pairs; where there are none, runs of the smaller group.
        mean: difference of the means.
        low, high: its 95 % interval; None where one run says nothing of spread.
        p: of the test that there is no difference; None for fewer than two pairs.
        deviation: of the differences; without pairs, what it would be if the runs were paired and independent.
        is_paired: whether runs of the same seeds were compared.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    deviation: float | None
    is_paired: bool


def difference(first: Mapping[int, float], second: Mapping[int, float], test: str = "t") -> Difference:
    """Compare two variants over the seeds that both have, or, where there are none, as independent groups.

    Args:
        first: seed -> value.
        second: the same of the other variant.
        test: `t`, Student's (Welch's without pairs), or `wilcoxon`, signed ranks (rank sums), which assumes less and
            cannot call anything significant below six pairs. The interval is Student's in both cases.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return _unpaired(list(first.values()), list(second.values()), test)
    differences = [first[seed] - second[seed] for seed in seeds]
    of_mean = estimate(differences)
    if of_mean.deviation is None or of_mean.half_width is None:
        return Difference(1, of_mean.mean, None, None, None, None, True)
    low, high = of_mean.mean - of_mean.half_width, of_mean.mean + of_mean.half_width
    if of_mean.deviation == 0:
        p = 1.0 if of_mean.mean == 0 else 0.0
    elif test == "wilcoxon":
        p = float(stats.wilcoxon(differences).pvalue)
    else:
        t = of_mean.mean / (of_mean.deviation / math.sqrt(of_mean.n))
        p = float(2 * stats.t.sf(abs(t), of_mean.n - 1))
    return Difference(of_mean.n, of_mean.mean, low, high, p, of_mean.deviation, True)


def _unpaired(first: Sequence[float], second: Sequence[float], test: str) -> Difference:
    """Welch's t-test, or the rank sums of Mann and Whitney."""
    n, mean = min(len(first), len(second)), statistics.fmean(first) - statistics.fmean(second)
    if n < 2:
        return Difference(n, mean, None, None, None, None, False)
    deviation = math.sqrt(statistics.variance(first) + statistics.variance(second))
    if deviation == 0:
        return Difference(n, mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0, False)
    welch = stats.ttest_ind(first, second, equal_var=False)
    interval = welch.confidence_interval(LEVEL)
    p = stats.mannwhitneyu(first, second).pvalue if test == "wilcoxon" else welch.pvalue
    return Difference(n, mean, float(interval.low), float(interval.high), float(p), deviation, False)


def holm(ps: Sequence[float]) -> list[float]:
    """Probabilities of several tests, made larger so that among all of them 5 % stays 5 % (Holm, 1979)."""
    adjusted = [0.0] * len(ps)
    so_far = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = so_far
    return adjusted


def seeds_needed(deviation: float, wanted: float) -> int | None:
    """How many pairs a paired t-test needs to see a difference of `wanted` in four cases of five; None above 1000.

    Args:
        deviation: of the differences, as seen so far.
        wanted: the difference, in the same unit, above 0.
    """
    low, high = 2, _MOST_SEEDS
    if _power(high, wanted / deviation if deviation else math.inf) < _POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if _power(middle, wanted / deviation if deviation else math.inf) < _POWER:
            low = middle + 1
        else:
            high = middle
    return low


def _power(n: int, effect: float) -> float:
    """Chance that a two-sided paired t-test sees a difference of `effect` standard deviations."""
    if math.isinf(effect):
        return 1.0
    return float(stats.nct.sf(_quantile(n - 1), n - 1, effect * math.sqrt(n)))


@cache
def _quantile(freedom: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))
