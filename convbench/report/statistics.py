"""Statistics over runs: confidence intervals of means and differences, significance tests and sample sizes.

Runs are paired by seed. The same seed gives two convolutions the same order of images, the same augmentation and, where
shapes agree, the same initial weights. The effects of these on a run cancel out in the difference.

Numbers are rounded to `DIGITS` decimals, so that rounding errors are not taken for differences: 85.7 - 85.4 and
85.3 - 85.0 are both three images of a thousand. They have to be equal for rank tests, and for telling whether values
differ at all.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

LEVEL = 0.95  # confidence level of the intervals
SIGNIFICANT = 0.05  # a p-value below this is significant
DIGITS = 9  # decimals of percentages, seconds and megabytes; finer than any measurement
_POWER = 0.8  # the usual power for planning the number of seeds
_MAX_SEEDS = 1000
_MAX_EXACT_RUNS = 50  # maximum number of runs for exact rank tests, whose counts are then exact in float64


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        n: the number of runs.
        mean: the mean over the runs.
        deviation: the standard deviation between runs; None for one run.
        half_width: half the width of the 95 % confidence interval of the mean, by Student's t; None for one run, and if
            all runs gave the same number.
    """

    n: int
    mean: float
    deviation: float | None
    half_width: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and confidence interval of at least one number."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Estimate(n, mean, None, None)
    if len({round(value, DIGITS) for value in values}) == 1:
        return Estimate(n, mean, 0.0, None)
    # statistics.stdev computes exactly, with fractions, which is a hundred times slower.
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, deviation, _quantile(n - 1) * deviation / math.sqrt(n))


@dataclass(frozen=True)
class Difference:
    """The difference between two variants, first minus second, as measured over seeds.

    Attributes:
        n: the number of pairs; for unpaired runs, the number of runs of the smaller group.
        mean: the difference of the means.
        half_width: half the width of its 95 % confidence interval; None if there are too few runs or they do not vary.
        p: the p-value of the null hypothesis that there is no difference; None if `half_width` is None, and for fewer
            than `fewest` pairs or runs.
        deviation: the standard deviation of the differences; for unpaired runs, its value if the runs were paired and
            independent. None for fewer than two pairs, or fewer than two runs of a variant.
        is_paired: whether runs with the same seed were paired.
        fewest: the smallest number of pairs, or of runs in each of two groups of the same size, for which the test can
            give a significant result.
    """

    n: int
    mean: float
    half_width: float | None
    p: float | None
    deviation: float | None
    is_paired: bool
    fewest: int


def difference(first: Mapping[int, float], second: Mapping[int, float], test: str = "t") -> Difference:
    """Compare two variants, paired by the seeds that both have, or as independent groups if they share no seed.

    Args:
        first: seed -> value of the first variant.
        second: seed -> value of the second variant.
        test: `t` for Student's paired t-test (Welch's t-test for unpaired runs), or `wilcoxon` for Wilcoxon's
            signed-rank test (the rank-sum test of Mann and Whitney for unpaired runs). The rank tests assume less and
            need six pairs (four runs of each variant). Tied values get their mean rank, pairs without a difference are
            left out, and p is exact for up to 50 pairs (50 runs in total). The confidence interval is Student's
            (Welch's) for both tests.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return _unpaired(_rounded(first), _rounded(second), test)
    differences = [round(first[seed] - second[seed], DIGITS) for seed in seeds]
    result = estimate(differences)
    fewest = 2 if test == "t" else _fewest_pairs()
    p = None
    if result.half_width and result.deviation and result.n >= fewest:
        if test == "wilcoxon":
            p = _signed_rank_p(differences)
        else:
            p = _student_p(result.mean * math.sqrt(result.n) / result.deviation, result.n - 1)
    return Difference(result.n, result.mean, result.half_width, p, result.deviation, True, fewest)


def _rounded(values: Mapping[int, float]) -> list[float]:
    return [round(value, DIGITS) for value in values.values()]


def _unpaired(first: Sequence[float], second: Sequence[float], test: str) -> Difference:
    """Compare two independent groups by Welch's t-test or the rank-sum test of Mann and Whitney."""
    one, other = estimate(first), estimate(second)
    n, mean = min(one.n, other.n), one.mean - other.mean
    fewest = 2 if test == "t" else _fewest_of_each()
    if one.deviation is None or other.deviation is None:
        return Difference(n, mean, None, None, None, False, fewest)
    deviation = math.hypot(one.deviation, other.deviation)
    if deviation == 0:
        return Difference(n, mean, None, None, 0.0, False, fewest)
    variances = [one.deviation**2 / one.n, other.deviation**2 / other.n]  # of the two means
    dof = sum(variances) ** 2 / (variances[0] ** 2 / (one.n - 1) + variances[1] ** 2 / (other.n - 1))
    standard_error = math.sqrt(sum(variances))
    p = None
    if test == "t":
        p = _student_p(mean / standard_error, dof)
    elif 2 / math.comb(one.n + other.n, one.n) < SIGNIFICANT:
        p = _rank_sum_p(first, second)
    return Difference(n, mean, _quantile(dof) * standard_error, p, deviation, False, fewest)


def _student_p(t: float, dof: float) -> float:
    """Two-sided p-value of Student's t with a number of degrees of freedom."""
    return float(2 * stats.t.sf(abs(t), dof))


def _fewest_pairs() -> int:
    """The smallest number of pairs n for which the signed-rank test can give p < 5 %; its smallest p is 2 / 2**n."""
    return next(n for n in range(1, 100) if 2 / 2**n < SIGNIFICANT)


def _fewest_of_each() -> int:
    """The smallest size n of two groups for which the rank-sum test can give p < 5 %; its smallest p is 2/C(2n, n)."""
    return next(n for n in range(1, 100) if 2 / math.comb(2 * n, n) < SIGNIFICANT)


def _signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (1945), exact for up to 50 pairs.

    The null distribution counts the sums of positive ranks over all patterns of signs.
    """
    nonzero = np.array([value for value in differences if value])
    if len(nonzero) > _MAX_EXACT_RUNS:
        return float(stats.wilcoxon(nonzero, correction=True, method="asymptotic").pvalue)
    ranks = _doubled_ranks(np.abs(nonzero))
    counts = np.zeros(ranks.sum() + 1)  # index: sum of the positive ranks
    counts[0] = 1
    for rank in ranks:
        counts[rank:] += counts[:-rank].copy()
    return _exact_p(counts, int(ranks[nonzero > 0].sum()))


def _rank_sum_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of the rank-sum test of Mann and Whitney (1947), exact for up to 50 runs.

    The null distribution counts the sums of ranks over all ways to choose the first group.
    """
    if len(first) + len(second) > _MAX_EXACT_RUNS:
        return float(stats.mannwhitneyu(first, second, method="asymptotic").pvalue)
    ranks = _doubled_ranks(np.array([*first, *second]))
    counts = np.zeros((len(first) + 1, ranks.sum() + 1))  # indices: number of chosen runs, sum of their ranks
    counts[0, 0] = 1
    for rank in ranks:
        counts[1:, rank:] += counts[:-1, :-rank].copy()
    return _exact_p(counts[-1], int(ranks[: len(first)].sum()))


def _doubled_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks times two, which are integers even if tied values get their mean rank."""
    return np.rint(2 * stats.rankdata(values)).astype(int)


def _exact_p(counts: np.ndarray, statistic: int) -> float:
    """Two-sided p-value: twice the smaller tail of a null distribution, `statistic` included.

    Args:
        counts: the number of arrangements for each value of the statistic from 0 on.
        statistic: the observed value.
    """
    return float(min(1.0, 2 * min(counts[: statistic + 1].sum(), counts[statistic:].sum()) / counts.sum()))


def holm(ps: Sequence[float]) -> list[float]:
    """P-values of several tests, adjusted so that the family-wise error rate is controlled (Holm, 1979)."""
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted


def seeds_needed(deviation: float, wanted: float) -> int | None:
    """The number of pairs for which a paired t-test detects a difference with a power of 80 %; None above 1000.

    Args:
        deviation: the standard deviation of the differences between pairs, above 0.
        wanted: the difference to detect, in the same unit, above 0.
    """
    low, high = 2, _MAX_SEEDS
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
    """Power of a two-sided paired t-test with n pairs for a difference of `effect` standard deviations."""
    return float(stats.nct.sf(_quantile(n - 1), n - 1, effect * math.sqrt(n)))


@cache
def _quantile(dof: float) -> float:
    """Quantile of Student's t for a two-sided confidence interval with a number of degrees of freedom."""
    return float(stats.t.ppf((1 + LEVEL) / 2, dof))
