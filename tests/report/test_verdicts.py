"""Tests of verdicts: what seeds and test images allow, and how often a verdict is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from convbench.report.measured import Measured
from convbench.report.verdicts import MIN_IMAGES, is_at_chance, judge, min_half_width, min_p

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def of_counts(counts, images, first_seed=0, chance=None):
    return Measured({first_seed + i: 100 * count / images for i, count in enumerate(counts)}, images, chance)


def verdict_on(first, second, images, test="t", is_paired=True, **others):
    offset = 0 if is_paired else 100
    return judge([(of_counts(first, images, **others), of_counts(second, images, offset, **others))], test)[0]


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
@pytest.mark.parametrize("is_paired", [True, False])
def test_runs_that_do_not_vary_between_seeds_give_no_verdict(test, is_paired):
    verdict = verdict_on([33, 33], [32, 32], 64, test, is_paired)
    assert (verdict.obstacle, verdict.p, verdict.half_width, verdict.is_significant) == ("no spread", None, None, False)


def test_a_difference_of_fewer_than_six_images_is_not_significant_for_any_seeds():
    first, second = [505, 506, 505, 506, 505, 506], [500, 501, 500, 501, 501, 501]  # a mean difference of 4.8 images
    verdict = verdict_on(first, second, 1000)
    assert verdict.seeds.p < 0.001
    assert verdict.p == 2 * 0.5**4
    assert verdict.low < 0 < verdict.high
    assert not verdict.is_significant


def test_a_difference_of_many_images_is_significant_if_the_seeds_agree():
    verdict = verdict_on([750, 755, 752], [700, 704, 703], 1000)
    assert verdict.is_significant
    assert verdict.low > 0
    assert verdict.p == verdict.seeds.p


def test_the_least_p_is_that_of_a_sign_test_on_the_differing_images():
    for count in (0, 1, 5, 6, 12):
        assert min_p(100 * count / 64, 64) == pytest.approx(1.0 if count == 0 else stats.binomtest(count, count).pvalue)
    assert MIN_IMAGES == 6
    assert min_p(100 * 5.99 / 64, 64) > 0.05 > min_p(100 * 6 / 64, 64)


def test_the_least_interval_excludes_0_from_the_same_number_of_images_as_the_least_p():
    for images in (64, 1000, 10_000):
        for count in range(20):
            points = 100 * count / images
            assert (min_half_width(points, images) < points) == (count >= MIN_IMAGES)


def test_without_the_number_of_images_only_the_seeds_count():
    first, second = {0: 51.0, 1: 51.1, 2: 51.2}, {0: 50.5, 1: 50.6, 2: 50.71}
    verdict = judge([(Measured(first), Measured(second, 1000))])[0]
    assert verdict.images is None
    assert verdict.p == verdict.seeds.p < 0.05
    assert verdict.is_significant


def test_a_verdict_uses_the_smaller_number_of_images():
    assert judge([(of_counts([5, 6], 10), of_counts([50, 61], 100))])[0].images == 10


def test_two_variants_at_the_level_of_chance_get_no_verdict():
    verdict = verdict_on([36, 38, 37], [25, 26, 25], 64, chance=50)
    assert (verdict.obstacle, verdict.is_significant) == ("at chance", False)
    assert verdict_on([57, 60, 59], [30, 32, 32], 64, chance=50).is_significant, (
        "the first variant is above the level of chance"
    )


@pytest.mark.parametrize(("correct", "expected"), [(38, True), (39, True), (40, False), (64, False), (0, True)])
def test_the_level_of_chance_is_decided_by_a_one_sided_binomial_test(correct, expected):
    assert is_at_chance(of_counts([correct] * 3, 64, chance=50)) is expected
    assert bool(stats.binomtest(correct, 64, 0.5, alternative="greater").pvalue >= 0.05) is expected


def test_p_values_of_several_verdicts_are_adjusted_together():
    rising = of_counts([7000, 7120, 7190, 7310], 10_000)
    close = of_counts([7160, 7160, 7310, 7390], 10_000)  # p = 0.03 without a correction
    assert judge([(close, rising)])[0].is_significant
    noise = [of_counts(counts, 10_000) for counts in np.random.default_rng(0).integers(7000, 7400, size=(3, 4))]
    several = judge([(close, rising), *((other, rising) for other in noise)])
    assert not several[0].is_significant
    assert several[0].adjusted == pytest.approx(4 * several[0].p)


def test_verdicts_on_equal_variants_are_wrong_in_at_most_five_percent_of_experiments():
    """Repeats some of the simulations of docs/verdict_size.json.

    With 150 experiments, 10.5 % is three standard errors above 5 %.
    """
    code = "import json, verdict_size; print(json.dumps(verdict_size.measure(150, images=(64, 10_000), seeds=(2, 6))))"
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, env=environment, check=True, capture_output=True, text=True
    )
    rows = json.loads(done.stdout)["seeds_differ"]
    assert len(rows) == 48
    assert [row for row in rows if row["share"] > 0.105] == []
    assert 0 < sum(row["share"] for row in rows) / len(rows) < 0.05


def test_the_documented_error_rate_of_verdicts_is_within_its_limit():
    measured = json.loads((SCRIPTS.parent / "docs" / "verdict_size.json").read_text())
    cells = {(row["images"], row["seeds"], row["test"], row["paired"]) for row in measured["seeds_differ"]}
    assert {cell[:2] for cell in cells} == {(m, n) for m in (64, 1000, 10_000) for n in (2, 3, 5, 10)}
    assert len(cells) == 48
    assert measured["experiments"] >= 2000
    assert max(row["share"] for row in measured["seeds_differ"]) <= 0.065
