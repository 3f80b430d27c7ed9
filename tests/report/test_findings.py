"""What a report says in sentences."""

import dataclasses
import math
import re

import numpy as np

from convbench.report.comparison import make_report
from convbench.report.findings import findings
from convbench.report.measured import Measured
from convbench.report.page_data import page_data
from convbench.report.settings import default_settings
from convbench.report.statistics import seeds_needed
from convbench.report.variants import sort_into_variants
from convbench.report.verdicts import judge, least_half_width
from convbench.report.writing import for_terminal
from convbench.run_folders.record import RunRecord, find_runs
from tests.report.runs import OLD, write_run, write_sweep


def report_on(folder, **settings):
    return make_report([folder], dataclasses.replace(default_settings(), **settings))


def test_a_clear_difference_is_said_with_its_interval_and_n(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72, 0.70, 0.71], "dynamic": [0.715, 0.72, 0.735, 0.71, 0.725]})
    assert report_on(tmp_path).findings == [
        "dynamic is better than standard by 1.3 points "
        "(95 % interval 0.9 to 1.7, n=5; 10,000 test images, of which each is 0.01 points)"
    ]


def test_a_worse_variant_is_called_worse_by_a_positive_number(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.60, 0.612, 0.621]})
    (said,) = report_on(tmp_path).findings
    assert re.fullmatch(
        r"dynamic is worse than standard by 9\.9 points \(95 % interval \d+\.\d to \d+\.\d, n=3; .*\)", said
    )


def test_no_clear_difference_is_said_with_the_seeds_that_it_would_take(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.705, 0.704, 0.726]})
    (said,) = report_on(tmp_path).findings
    assert said.startswith(
        "dynamic and standard are not distinguishable at n=3: the one minus the other is +0.2 points"
    )
    assert int(re.search(r"about (\d+) seeds would be needed to see 0.5 points$", said)[1]) > 3
    (said,) = report_on(tmp_path, difference=10.0).findings
    assert said.endswith("; a difference of 10 points would probably have been seen")


def test_one_seed_says_nothing_of_chance_and_is_warned_of(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70], "dynamic": [0.80]})
    report = report_on(tmp_path)
    (said,) = report.findings
    assert "+10.0 points (n=1; " in said
    assert "better" not in said
    assert "one run says nothing of spread: standard, dynamic (n=1)" in report.warnings
    assert report.best[0] is None


def test_an_a_a_test_calls_a_difference_significant_in_three_to_seven_percent(tmp_path):
    """Two variants that are the same, 200 times: what is called better or worse is so by chance alone."""
    runs = find_runs([write_sweep(tmp_path, {"standard": [0.75] * 5, "other": [0.75] * 5}, epochs=1)]).runs
    draws = np.random.default_rng(0).normal(0.75, 0.01, size=(200, len(runs)))
    called = 0
    for draw in draws:
        drawn = [
            RunRecord(run.folder, run.results | {"test": {"accuracy": accuracy}})
            for run, accuracy in zip(runs, draw.tolist(), strict=True)
        ]
        (said,) = findings(sort_into_variants(drawn, None, "standard"), default_settings())
        called += "is better than" in said or "is worse than" in said
    assert 0.03 * 200 <= called <= 0.07 * 200, called


def test_with_several_variants_chance_is_shared_out_between_the_comparisons(tmp_path):
    base = np.array([0.70, 0.71, 0.72, 0.73])
    # alone, a difference of p = 0.03
    close = base + 0.01 + np.array([0.006, -0.006, 0.002, -0.002])
    write_sweep(tmp_path, {"standard": base.tolist(), "close": close.tolist()})
    assert report_on(tmp_path).findings[0].startswith("close is better than standard")
    noise = np.random.default_rng(0).normal(0.72, 0.02, size=(3, 4)).tolist()
    write_sweep(tmp_path, {f"other{index}": values for index, values in enumerate(noise)})
    said = [
        sentence for sentence in report_on(tmp_path).findings if sentence.startswith(("close and standard", "standard"))
    ]
    assert any("not distinguishable" in sentence and "it is one of 10 comparisons" in sentence for sentence in said)


def test_equal_scores_of_a_few_test_images_get_no_verdict_no_star_and_no_interval(tmp_path):
    write_sweep(tmp_path, {"standard": [0.5] * 2, "dynamic": [0.515625] * 2}, test_images=64, class_count=200)
    report = report_on(tmp_path)
    (said,) = report.findings
    assert "64 test images, of which each is 1.6 points" in said
    assert "is better than" not in said
    assert report.best[0] is None
    for variant in page_data(report, tmp_path)["variants"]:
        assert not variant["cells"]["test_accuracy"]["is_best"]
        assert "±" not in variant["cells"]["test_accuracy"]["text"]
    assert re.search(r"dynamic +2 +51\.56 +1,000", for_terminal(report))


def test_a_difference_of_a_few_images_is_named_by_their_number(tmp_path):
    steps = np.array([0, 1, 2, 1, 0, 1])
    scores = {
        "standard": ((700 + steps) / 1000).tolist(),
        "dynamic": ((704 + 2 * steps // 2 + steps % 2) / 1000).tolist(),
    }
    write_sweep(tmp_path, scores, test_images=1000)
    (said,) = report_on(tmp_path).findings
    assert "not distinguishable" in said
    assert "which is 4.5 images, and fewer than 6" in said
    assert "at least 1,200 test images" in said


def test_what_the_test_set_cannot_show_is_not_promised_for_any_number_of_seeds(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.71, 0.70, 0.72]}, test_images=100)
    (said,) = report_on(tmp_path, difference=5.0).findings
    assert "seeds" not in said.replace("whatever the seeds", "")
    assert "at least 120 test images" in said
    (said,) = report_on(tmp_path, difference=6.0).findings
    assert "test images are needed" not in said


def test_planned_seeds_see_the_difference_in_four_experiments_of_five():
    """Also where the test images take away most of it: 0.8 points of 1,000 images are 8, and 6 are the fewest."""
    draw, images, deviation = np.random.default_rng(0), 1000, 0.3
    for wanted in (0.8, 1.0, 2.0):
        taken = least_half_width(wanted, images)
        seeds = seeds_needed(deviation, math.sqrt(wanted**2 - taken**2))
        seen = 0
        for differences in draw.normal(wanted, deviation, size=(1000, seeds)):
            one = Measured(dict(enumerate(50 + differences)), images)
            seen += judge([(one, Measured(dict.fromkeys(range(seeds), 50.0), images))])[0].is_real
        assert seen / 1000 > 0.75, (wanted, seeds)


def test_ranks_of_too_few_seeds_say_how_many_it_takes(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.80, 0.81, 0.825]})
    report = report_on(tmp_path, test="wilcoxon")
    (said,) = report.findings
    assert "which needs 6 pairs of runs" in said
    assert report.best[0] is None


def test_networks_at_the_level_of_chance_are_not_compared(tmp_path):
    write_sweep(
        tmp_path, {"standard": [0.45, 0.46, 0.47], "dynamic": [0.55, 0.56, 0.58]}, test_images=64, class_count=2
    )
    report = report_on(tmp_path)
    (said,) = report.findings
    assert "at the level of chance" in said
    assert report.best[0] is None


def test_old_runs_without_a_number_of_images_are_judged_by_their_seeds(tmp_path):
    score = [{"loss": 1.0, "accuracy": accuracy} for accuracy in (0.70, 0.71, 0.72, 0.80, 0.81, 0.825)]
    for index, test in enumerate(score):
        conv = ("standard", "dynamic")[index // 3]
        write_run(tmp_path / str(index), conv, index % 3, test=test, without=OLD)
    report = report_on(tmp_path)
    assert report.findings == ["dynamic is better than standard by 10.2 points (95 % interval 9.4 to 10.9, n=3)"]
    assert sum("test images" in warning for warning in report.warnings) == 1


def test_a_test_accuracy_is_never_compared_with_a_validation_accuracy(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / f"a{seed}", "standard", seed, 0.70 + 0.01 * seed)
        write_run(tmp_path / f"b{seed}", "dynamic", seed, 0.80 + 0.011 * seed, test=None)
    report = report_on(tmp_path)
    assert report.findings == []
    assert [point.mean is None for point in report.points] == [False, True]
    assert any("b0, b1, b2" in warning for warning in report.warnings)
