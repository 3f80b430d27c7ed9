"""What runs say of a number and of the difference between two variants: intervals, tests, how many seeds it would take.

Runs are paired by seed: the same seed gives two convolutions the same order of images, the same augmentation and, where
shapes agree, the same initial weights, so what these do to a run cancels out in the difference.

All numbers are rounded to `DIGITS` decimals, so that floating-point noise is no difference: 85.7 - 85.4 and 85.3 - 85.0
are both three images of a thousand and have to be equal, for tests by ranks as well as for the question whether there
is any spread.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

LEVEL = 0.95
SIGNIFICANT = 0.05
DIGITS = 9  # of percentages, seconds and megabytes alike; below anything that can be measured
_POWER = 0.8  # the usual chance of seeing what is there, by which the number of seeds is planned
_MOST_SEEDS = 1000
_MOST_EXACT = 50  # runs up to which all arrangements of ranks are counted; their number is exact in float64


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        n: runs.
        mean: of them.
        deviation: standard deviation between runs; None for one run.
        half_width: of the 95 % interval of the mean, by Student's t; None where there is nothing to judge it by: for
            one run, and where all runs gave the same number.
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
    if len({round(value, DIGITS) for value in values}) == 1:
        return Estimate(n, mean, 0.0, None)
    # statistics.stdev computes in fractions, exactly and a hundred times as slowly
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, deviation, _quantile(n - 1) * deviation / math.sqrt(n))


@dataclass(frozen=True)
class Difference:
    """Between two variants, first minus second, by what differs between seeds.

    Attributes:
        n: pairs; where there are none, runs of the smaller group.
        mean: difference of the means.
        half_width: of its 95 % interval; None where there is no spread to judge it by.
        p: of the test that there is no difference; None for fewer than two pairs, without spread, and for fewer than
            `fewest` runs.
        deviation: of the differences; without pairs, what it would be if the runs were paired and independent. None
            for fewer than two pairs.
        is_paired: whether runs of the same seeds were compared.
        fewest: pairs, or runs of each of two groups of the same size, with which the test can call anything
            significant.
    """

    n: int
    mean: float
    half_width: float | None
    p: float | None
    deviation: float | None
    is_paired: bool
    fewest: int


def difference(first: Mapping[int, float], second: Mapping[int, float], test: str = "t") -> Difference:
    """Compare two variants over the seeds that both have, or, where there are none, as independent groups.

    Args:
        first: seed -> value.
        second: the same of the other variant.
        test: `t`, Student's (Welch's without pairs), or `wilcoxon`, signed ranks (rank sums, Mann and Whitney's), which
            assumes less and needs six pairs (four runs of each). Ranks that tie share their mean, pairs without a
            difference are left out, and up to 50 runs all arrangements are counted, so that p is exact. The interval is
            Student's in both cases.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return _unpaired(_rounded(first), _rounded(second), test)
    differences = [round(first[seed] - second[seed], DIGITS) for seed in seeds]
    of_mean = estimate(differences)
    fewest = 2 if test == "t" else _fewest_pairs()
    p = None
    if of_mean.half_width and of_mean.deviation and of_mean.n >= fewest:
        if test == "wilcoxon":
            p = _signed_ranks(differences)
        else:
            p = _two_sided(of_mean.mean * math.sqrt(of_mean.n) / of_mean.deviation, of_mean.n - 1)
    return Difference(of_mean.n, of_mean.mean, of_mean.half_width, p, of_mean.deviation, True, fewest)


def _rounded(values: Mapping[int, float]) -> list[float]:
    return [round(value, DIGITS) for value in values.values()]


def _unpaired(first: Sequence[float], second: Sequence[float], test: str) -> Difference:
    """Welch's t-test, or the rank sums of Mann and Whitney."""
    one, other = estimate(first), estimate(second)
    n, mean = min(one.n, other.n), one.mean - other.mean
    fewest = 2 if test == "t" else _fewest_of_each()
    if one.deviation is None or other.deviation is None:
        return Difference(n, mean, None, None, None, False, fewest)
    deviation = math.hypot(one.deviation, other.deviation)
    if deviation == 0:
        return Difference(n, mean, None, None, 0.0, False, fewest)
    errors = [one.deviation**2 / one.n, other.deviation**2 / other.n]
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / (one.n - 1) + errors[1] ** 2 / (other.n - 1))
    error = math.sqrt(sum(errors))
    p = None
    if test == "t":
        p = _two_sided(mean / error, freedom)
    elif 2 / math.comb(one.n + other.n, one.n) < SIGNIFICANT:
        p = _rank_sums(first, second)
    return Difference(n, mean, _quantile(freedom) * error, p, deviation, False, fewest)


def _two_sided(t: float, freedom: float) -> float:
    return float(2 * stats.t.sf(abs(t), freedom))


def _fewest_pairs() -> int:
    """Pairs of which the two most extreme of all 2**n patterns of signs are less than 5 %."""
    return next(n for n in range(1, 100) if 2 / 2**n < SIGNIFICANT)


def _fewest_of_each() -> int:
    """The same of all ways to draw n of 2 n runs."""
    return next(n for n in range(1, 100) if 2 / math.comb(2 * n, n) < SIGNIFICANT)


def _signed_ranks(differences: Sequence[float]) -> float:
    """Wilcoxon's test (1945): how many of all patterns of signs have a sum of ranks as extreme as the one found."""
    there = np.array([value for value in differences if value])
    if len(there) > _MOST_EXACT:
        return float(stats.wilcoxon(there, correction=True, method="asymptotic").pvalue)
    ranks = _doubled_ranks(np.abs(there))
    ways = np.zeros(ranks.sum() + 1)  # by the sum of the ranks that are positive
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[:-rank].copy()
    return _tails(ways, int(ranks[there > 0].sum()))


def _rank_sums(first: Sequence[float], second: Sequence[float]) -> float:
    """Mann and Whitney's test (1947): how many of all ways to draw the first group have so extreme a sum of ranks."""
    if len(first) + len(second) > _MOST_EXACT:
        return float(stats.mannwhitneyu(first, second, method="asymptotic").pvalue)
    ranks = _doubled_ranks(np.array([*first, *second]))
    ways = np.zeros((len(first) + 1, ranks.sum() + 1))  # by how many are drawn, and the sum of their ranks
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    return _tails(ways[-1], int(ranks[: len(first)].sum()))


def _doubled_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, of equal values their mean, times two: whole numbers."""
    return np.rint(2 * stats.rankdata(values)).astype(int)


def _tails(ways: np.ndarray, found: int) -> float:
    """Twice the smaller share of arrangements that lie at `found` or beyond."""
    return float(min(1.0, 2 * min(ways[: found + 1].sum(), ways[found:].sum()) / ways.sum()))


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
        deviation: of the differences, as seen so far, above 0.
        wanted: the difference, in the same unit, above 0.
    """
    low, high = 2, _MOST_SEEDS
    if _power(high, wanted / deviation) < _POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if _power(middle, wanted / deviation) < _POWER:
            low = middle + 1
        else:
            high = middle
    return low


def _power(n: int, effect: float) -> float:
    """Chance that a two-sided paired t-test sees a difference of `effect` standard deviations."""
    return float(stats.nct.sf(_quantile(n - 1), n - 1, effect * math.sqrt(n)))


@cache
def _quantile(freedom: float) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))
