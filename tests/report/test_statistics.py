"""Tests of the statistics against scipy on known data, and of the power of the planned number of seeds."""

import numpy as np
import pytest
from scipy import stats

from convbench.report.statistics import difference, estimate, holm, seeds_needed

# Additional hours of sleep of ten patients with two drugs (Student, 1908).
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def by_seed(values):
    return dict(enumerate(values))


def test_the_interval_of_a_mean_equals_that_of_scipy():
    found = estimate(FIRST)
    low, high = stats.t.interval(0.95, len(FIRST) - 1, loc=np.mean(FIRST), scale=stats.sem(FIRST))
    assert found.mean == pytest.approx(np.mean(FIRST))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_one_run_has_no_interval():
    assert estimate([0.7]).half_width is None
    assert estimate([0.7]).deviation is None


def test_the_example_of_student_gives_the_published_p_value_and_interval():
    found = difference(by_seed(SECOND), by_seed(FIRST))
    expected = stats.ttest_rel(SECOND, FIRST)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.p == pytest.approx(0.00283, abs=5e-6)
    interval = expected.confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(interval))
    assert (found.mean, found.n, found.is_paired) == (pytest.approx(1.58), 10, True)


def test_runs_are_paired_by_seed_in_any_order():
    shuffled = dict(sorted(by_seed(FIRST).items(), key=lambda item: -item[0])) | {99: 1000.0}
    assert difference(by_seed(SECOND), shuffled) == difference(by_seed(SECOND), by_seed(FIRST))


def test_the_signed_rank_test_equals_that_of_scipy():
    found = difference(by_seed(SECOND), by_seed(FIRST), test="wilcoxon")
    assert found.p == pytest.approx(stats.wilcoxon([a - b for a, b in zip(SECOND, FIRST, strict=True)]).pvalue)


COUNTS = [853, 855, 859, 857, 852, 853, 857, 858, 855]  # of 1,000 images
OTHER_COUNTS = [856, 849, 858, 851, 849, 847, 858, 854, 853]
EXACT = stats.PermutationMethod(n_resamples=np.inf)


def in_percent(counts, images=1000):
    return [100 * count / images for count in counts]


@pytest.mark.parametrize("values", [in_percent, lambda counts: [count / 10 for count in counts]])
def test_accuracies_tie_in_the_signed_rank_test_if_their_image_counts_tie(values):
    found = difference(by_seed(values(COUNTS)), by_seed(values(OTHER_COUNTS)), "wilcoxon")
    assert found.p == 30 / 512 == stats.wilcoxon(COUNTS, OTHER_COUNTS, method=EXACT).pvalue


def test_pairs_without_a_difference_are_left_out_of_the_signed_rank_test():
    differences = [0, 0, 3, 3, -1, 2, 5, 5, -2]
    found = difference(by_seed(differences), dict.fromkeys(range(9), 0.0), "wilcoxon")
    assert found.p == stats.wilcoxon([3, 3, -1, 2, 5, 5, -2], method=EXACT).pvalue


@pytest.mark.parametrize("sizes", [(4, 4), (2, 8), (9, 5)])
def test_the_rank_sum_test_is_exact_also_with_ties(sizes):
    one, other = COUNTS[: sizes[0]], OTHER_COUNTS[: sizes[1]]
    found = difference(
        by_seed(in_percent(one)), {seed + 100: v for seed, v in enumerate(in_percent(other))}, "wilcoxon"
    )
    assert found.p == pytest.approx(stats.mannwhitneyu(one, other, method=EXACT).pvalue)
    assert not found.is_paired


def test_rank_tests_of_more_than_fifty_runs_use_the_normal_approximation():
    values = np.random.default_rng(0).normal(0.1, 1.0, size=200).round(1)
    paired = difference(by_seed(values), dict.fromkeys(range(200), 0.0), "wilcoxon")
    assert paired.p == pytest.approx(stats.wilcoxon(values, method="asymptotic").pvalue, rel=0.05)
    unpaired = difference(by_seed(values[:100]), {seed: values[seed] for seed in range(100, 200)}, "wilcoxon")
    assert unpaired.p == pytest.approx(stats.mannwhitneyu(values[:100], values[100:]).pvalue)


def test_rank_tests_of_too_few_runs_give_no_p_value_and_the_number_of_runs_needed():
    for n, fewest, offset in ((5, 6, 0), (3, 4, 100)):
        second = {seed + offset: value for seed, value in enumerate(OTHER_COUNTS[:n])}
        found = difference(by_seed(COUNTS[:n]), second, "wilcoxon")
        assert (found.p, found.fewest) == (None, fewest)
        assert found.half_width > 0
        more = {seed + offset: value for seed, value in enumerate(OTHER_COUNTS[:fewest])}
        assert difference(by_seed(COUNTS[:fewest]), more, "wilcoxon").p is not None


def test_runs_without_a_common_seed_are_compared_by_the_test_of_welch():
    second = {seed + 100: value for seed, value in enumerate(FIRST[:8])}
    found = difference(by_seed(SECOND), second)
    expected = stats.ttest_ind(SECOND, FIRST[:8], equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(interval))
    assert not found.is_paired


def test_one_of_two_groups_may_have_equal_values():
    found = difference({0: 5.0, 1: 5.0}, {2: 1.0, 3: 2.0})
    assert found.p == pytest.approx(2 * stats.t.sf(7, 1))


def test_a_single_pair_has_a_difference_and_no_p_value():
    found = difference({0: 0.8}, {0: 0.7})
    assert found.mean == pytest.approx(0.1)
    assert (found.n, found.p, found.half_width, found.deviation) == (1, None, None, None)


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
@pytest.mark.parametrize("second", [{0: 1.0, 1: 2.0}, {0: 0.9, 1: 1.9}, {5: 1.0, 6: 1.0}])
def test_differences_that_do_not_vary_have_no_p_value_and_no_interval(test, second):
    first = {0: 1.0, 1: 2.0} if 0 in second else {0: 2.0, 1: 2.0}
    found = difference(first, second, test)
    assert (found.p, found.half_width, found.deviation) == (None, None, 0.0)


def test_values_that_differ_by_rounding_errors_do_not_vary():
    # 0.3 - 0.2 and 0.2 - 0.1 differ by 3e-17
    assert difference({0: 0.3, 1: 0.2, 2: 0.1}, {0: 0.2, 1: 0.1, 2: 0.0}).deviation == 0
    assert estimate([0.1 + 0.2, 0.3]).half_width is None


def test_the_correction_of_holm_matches_a_manual_calculation_and_keeps_a_single_p_value():
    assert holm([0.04]) == [0.04]
    # calculated by hand: 3 x 0.01, then 2 x 0.02, then 0.04, each at least as large as the previous one
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_number_of_seeds_needed_gives_a_power_of_80_percent_in_simulations():
    count = seeds_needed(deviation=1.0, wanted=0.5)
    assert count == 34  # the tabulated value for d = 0.5, power 0.8, two-sided 5 %
    draws = np.random.default_rng(0).normal(0.5, 1.0, size=(4000, count))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)


def test_the_number_of_seeds_needed_is_none_above_a_thousand():
    assert seeds_needed(deviation=100.0, wanted=0.5) is None
    assert seeds_needed(deviation=1e-9, wanted=0.5) == 2
