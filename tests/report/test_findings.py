"""Tests of the findings of a report."""

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
from convbench.report.verdicts import judge, min_half_width
from convbench.report.writing import for_terminal
from convbench.run_folders.record import RunRecord, find_runs
from tests.report.runs import OLD, write_run, write_sweep


def report_on(folder, **settings):
    return make_report([folder], dataclasses.replace(default_settings(), **settings))


def test_a_significant_difference_is_reported_with_its_interval_and_n(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72, 0.70, 0.71], "dynamic": [0.715, 0.72, 0.735, 0.71, 0.725]})
    (finding,) = report_on(tmp_path).findings
    assert re.fullmatch(
        r"dynamic is better than standard by 1\.3 points \(95 % interval 0\.9 to 1\.7, n=5; "
        r"10,000 test images, .* 0\.01 points\)",
        finding,
    )


def test_a_worse_variant_is_reported_with_a_positive_difference(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.60, 0.612, 0.621]})
    (finding,) = report_on(tmp_path).findings
    assert re.fullmatch(
        r"dynamic is worse than standard by 9\.9 points \(95 % interval \d+\.\d to \d+\.\d, n=3; .*\)", finding
    )


def test_a_difference_that_is_not_significant_is_reported_with_the_number_of_seeds_needed(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.705, 0.704, 0.726]})
    (finding,) = report_on(tmp_path).findings
    assert finding.startswith("dynamic and standard are not distinguishable at n=3: ")
    assert " +0.2 points (95 % interval " in finding
    assert int(re.search(r"about (\d+) seeds .* 0\.5 points$", finding)[1]) > 3
    (finding,) = report_on(tmp_path, difference=10.0).findings
    assert re.search(r"; [^;]*10 points would probably have been detected$", finding)
    assert "seeds" not in finding


def test_a_single_seed_gives_no_verdict_and_a_warning(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70], "dynamic": [0.80]})
    report = report_on(tmp_path)
    (finding,) = report.findings
    assert "+10.0 points (n=1; " in finding
    assert "better" not in finding
    assert any(warning.endswith(": standard, dynamic (n=1)") for warning in report.warnings)
    assert report.best[0] is None


def test_equal_variants_are_called_different_in_three_to_seven_percent_of_comparisons(tmp_path):
    """Compares two equal variants 200 times, so that every significant difference is due to chance."""
    runs = find_runs([write_sweep(tmp_path, {"standard": [0.75] * 5, "other": [0.75] * 5}, epochs=1)]).runs
    draws = np.random.default_rng(0).normal(0.75, 0.01, size=(200, len(runs)))
    called = 0
    for draw in draws:
        drawn = [
            RunRecord(run.folder, run.results | {"test": {"accuracy": accuracy}})
            for run, accuracy in zip(runs, draw.tolist(), strict=True)
        ]
        (finding,) = findings(sort_into_variants(drawn, None, "standard"), default_settings())
        called += "is better than" in finding or "is worse than" in finding
    assert 0.03 * 200 <= called <= 0.07 * 200, called


def test_p_values_are_adjusted_for_the_number_of_comparisons(tmp_path):
    base = np.array([0.70, 0.71, 0.72, 0.73])
    # p = 0.03 without a correction
    close = base + 0.01 + np.array([0.006, -0.006, 0.002, -0.002])
    write_sweep(tmp_path, {"standard": base.tolist(), "close": close.tolist()})
    assert report_on(tmp_path).findings[0].startswith("close is better than standard")
    noise = np.random.default_rng(0).normal(0.72, 0.02, size=(3, 4)).tolist()
    write_sweep(tmp_path, {f"other{index}": values for index, values in enumerate(noise)})
    sentences = [
        sentence for sentence in report_on(tmp_path).findings if sentence.startswith(("close and standard", "standard"))
    ]
    assert any("not distinguishable" in sentence and "10 comparisons" in sentence for sentence in sentences)


def test_runs_with_equal_accuracies_get_no_verdict_no_mark_and_no_interval(tmp_path):
    write_sweep(tmp_path, {"standard": [0.5] * 2, "dynamic": [0.515625] * 2}, test_images=64, class_count=200)
    report = report_on(tmp_path)
    (finding,) = report.findings
    assert re.search(r"64 test images, .* 1\.6 points", finding)
    assert "is better than" not in finding
    assert report.best[0] is None
    for variant in page_data(report, tmp_path)["variants"]:
        assert not variant["cells"]["test_accuracy"]["is_best"]
        assert "±" not in variant["cells"]["test_accuracy"]["text"]
    assert re.search(r"dynamic +2 +51\.56 +1,000", for_terminal(report))


def test_a_difference_of_fewer_than_six_images_is_reported_with_the_number_of_images(tmp_path):
    steps = np.array([0, 1, 2, 1, 0, 1])
    scores = {
        "standard": ((700 + steps) / 1000).tolist(),
        "dynamic": ((704 + 2 * steps // 2 + steps % 2) / 1000).tolist(),
    }
    write_sweep(tmp_path, scores, test_images=1000)
    (finding,) = report_on(tmp_path).findings
    assert "not distinguishable" in finding
    assert re.search(r"\b4\.5 images, .* fewer than 6 images", finding)
    assert "at least 1,200 test images" in finding


def test_a_difference_below_six_test_images_asks_for_images_and_not_for_seeds(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.71, 0.70, 0.72]}, test_images=100)
    (finding,) = report_on(tmp_path, difference=5.0).findings
    assert "seeds would be needed" not in finding
    assert "at least 120 test images" in finding
    (finding,) = report_on(tmp_path, difference=6.0).findings
    assert "at least" not in finding
    assert "seeds would be needed" in finding


def test_the_number_of_seeds_needed_detects_the_difference_in_four_of_five_experiments():
    """The smallest difference, 0.8 points of 1,000 images, is 8 images; fewer than 6 would never be significant."""
    generator, images, deviation = np.random.default_rng(0), 1000, 0.3
    for wanted in (0.8, 1.0, 2.0):
        from_images = min_half_width(wanted, images)
        seeds = seeds_needed(deviation, math.sqrt(wanted**2 - from_images**2))
        detected = 0
        for differences in generator.normal(wanted, deviation, size=(1000, seeds)):
            one = Measured(dict(enumerate(50 + differences)), images)
            detected += judge([(one, Measured(dict.fromkeys(range(seeds), 50.0), images))])[0].is_significant
        assert detected / 1000 > 0.75, (wanted, seeds)


def test_a_rank_test_on_too_few_seeds_reports_how_many_it_needs(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.80, 0.81, 0.825]})
    report = report_on(tmp_path, test="wilcoxon")
    (finding,) = report.findings
    assert "signed-rank test, which needs 6 pairs" in finding
    assert report.best[0] is None


def test_variants_at_the_level_of_chance_are_not_compared(tmp_path):
    write_sweep(
        tmp_path, {"standard": [0.45, 0.46, 0.47], "dynamic": [0.55, 0.56, 0.58]}, test_images=64, class_count=2
    )
    report = report_on(tmp_path)
    (finding,) = report.findings
    assert "at the level of chance" in finding
    assert report.best[0] is None


def test_runs_that_do_not_record_the_number_of_images_are_compared_over_seeds_only(tmp_path):
    score = [{"loss": 1.0, "accuracy": accuracy} for accuracy in (0.70, 0.71, 0.72, 0.80, 0.81, 0.825)]
    for index, test in enumerate(score):
        conv = ("standard", "dynamic")[index // 3]
        write_run(tmp_path / str(index), conv, index % 3, test=test, without=OLD)
    report = report_on(tmp_path)
    (finding,) = report.findings
    assert re.fullmatch(
        r"dynamic is better than standard by 10\.2 points \(95 % interval 9\.4 to 10\.9, n=3\)", finding
    )
    assert sum("test images" in warning for warning in report.warnings) == 1


def test_a_test_accuracy_is_never_compared_with_a_validation_accuracy(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / f"a{seed}", "standard", seed, 0.70 + 0.01 * seed)
        write_run(tmp_path / f"b{seed}", "dynamic", seed, 0.80 + 0.011 * seed, test=None)
    report = report_on(tmp_path)
    assert report.findings == []
    assert [point.mean is None for point in report.points] == [False, True]
    assert any("b0, b1, b2" in warning for warning in report.warnings)
