"""Statistics against scipy's own answers on known data, and how often they cry wolf."""

import numpy as np
import pytest
from scipy import stats

from convbench.report.statistics import difference, estimate, holm, seeds_needed

# Sleep in hours after two drugs, of ten patients (Student, 1908).
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def by_seed(values):
    return dict(enumerate(values))


def test_the_interval_of_a_mean_is_scipys():
    found = estimate(FIRST)
    low, high = stats.t.interval(0.95, len(FIRST) - 1, loc=np.mean(FIRST), scale=stats.sem(FIRST))
    assert found.mean == pytest.approx(np.mean(FIRST))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_one_run_has_no_interval():
    assert estimate([0.7]).half_width is None
    assert estimate([0.7]).deviation is None


def test_students_own_example_gives_the_published_t_test_and_interval():
    found = difference(by_seed(SECOND), by_seed(FIRST))
    expected = stats.ttest_rel(SECOND, FIRST)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.p == pytest.approx(0.00283, abs=5e-6)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.mean, found.n, found.is_paired) == (pytest.approx(1.58), 10, True)


def test_pairs_are_those_of_equal_seeds_whatever_the_order():
    shuffled = dict(sorted(by_seed(FIRST).items(), key=lambda item: -item[0])) | {99: 1000.0}
    assert difference(by_seed(SECOND), shuffled) == difference(by_seed(SECOND), by_seed(FIRST))


def test_wilcoxons_test_is_scipys():
    found = difference(by_seed(SECOND), by_seed(FIRST), test="wilcoxon")
    assert found.p == pytest.approx(stats.wilcoxon([a - b for a, b in zip(SECOND, FIRST, strict=True)]).pvalue)


@pytest.mark.parametrize(("test", "expected"), [("t", stats.ttest_ind), ("wilcoxon", stats.mannwhitneyu)])
def test_without_a_common_seed_groups_are_compared_as_independent(test, expected):
    found = difference(by_seed(SECOND), {seed + 100: value for seed, value in enumerate(FIRST[:8])}, test)
    arguments = {"equal_var": False} if test == "t" else {}
    assert found.p == pytest.approx(expected(SECOND, FIRST[:8], **arguments).pvalue)
    assert not found.is_paired


def test_one_pair_has_a_difference_and_no_probability():
    found = difference({0: 0.8}, {0: 0.7})
    assert found.mean == pytest.approx(0.1)
    assert (found.n, found.p, found.low) == (1, None, None)


def test_equal_differences_leave_nothing_to_chance():
    assert difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1
    assert difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}).p == 0


def test_holms_correction_is_scipys_of_a_family_and_leaves_a_single_test_alone():
    assert holm([0.04]) == [0.04]
    # worked by hand: 3 x 0.01, then 2 x 0.02, then 0.04, each at least the one before
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_seeds_needed_give_the_power_in_simulated_experiments():
    count = seeds_needed(deviation=1.0, wanted=0.5)
    assert count == 34  # as the tables have it for d = 0.5, power 0.8, two-sided 5 %
    draws = np.random.default_rng(0).normal(0.5, 1.0, size=(4000, count))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)


def test_more_than_a_thousand_seeds_are_not_counted():
    assert seeds_needed(deviation=100.0, wanted=0.5) is None
    assert seeds_needed(deviation=0.0, wanted=0.5) == 2
