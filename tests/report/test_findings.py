"""What a report says in sentences, and of what it warns."""

import dataclasses
import re

import numpy as np
import pytest

from convbench.report.comparison import make_report
from convbench.report.settings import default_settings
from tests.report.runs import write_run, write_sweep


def report_on(folder, **settings):
    return make_report([folder], dataclasses.replace(default_settings(), **settings))


def test_a_clear_difference_is_said_with_its_interval_and_n(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72, 0.70, 0.71], "dynamic": [0.715, 0.72, 0.735, 0.71, 0.725]})
    assert report_on(tmp_path).findings == [
        "dynamic is better than standard by 1.3 points (95 % interval 1.0 to 1.6, n=5)"
    ]


def test_a_worse_variant_is_called_worse_by_a_positive_number(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72], "dynamic": [0.60, 0.612, 0.621]})
    (said,) = report_on(tmp_path).findings
    assert re.fullmatch(
        r"dynamic is worse than standard by 9\.9 points \(95 % interval \d+\.\d to \d+\.\d, n=3\)", said
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
    assert report.findings == [
        "dynamic has 10.0 points more than standard in one pair of runs (n=1), which says nothing of chance: "
        "give more seeds"
    ]
    assert "one run says nothing of spread: standard, dynamic (n=1)" in report.warnings
    assert report.best[0] is None


def test_an_a_a_test_calls_a_difference_significant_in_three_to_seven_percent(tmp_path):
    """Two variants that are the same, 200 times: what is called better or worse is so by chance alone."""
    draws = np.random.default_rng(0).normal(0.75, 0.01, size=(200, 2, 5))
    called = 0
    for first, second in draws:
        write_sweep(tmp_path, {"standard": first.tolist(), "other": second.tolist()}, epochs=1)
        (said,) = report_on(tmp_path).findings
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


def test_configurations_that_differ_in_more_than_what_is_compared_are_warned_of(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", "standard", seed)
        write_run(tmp_path / f"b{seed}", "dynamic", seed, changes={"optimizer.lr": 0.05})
    warnings = report_on(tmp_path).warnings
    assert "standard, optimizer.lr=0.1, dynamic, optimizer.lr=0.05 differ in more than conv: optimizer.lr" in warnings


def test_variants_are_compared_where_they_differ_in_nothing_else(tmp_path):
    for lr in (0.1, 0.05):
        for conv in ("standard", "dynamic"):
            for seed in (0, 1):
                write_run(tmp_path / f"{conv}{lr}{seed}", conv, seed, 0.7 + 0.01 * seed, changes={"optimizer.lr": lr})
    report = report_on(tmp_path)
    assert len(report.findings) == 2
    for said in report.findings:
        assert len(set(re.findall(r"optimizer\.lr=([\d.]+)", said))) == 1, said
    assert not [warning for warning in report.warnings if "differ in more" in warning]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"code": "other"}, "runs differ in their code of convbench (0123456789ab, other): results may differ by that"),
        ({"versions": {"torch": "3.0"}}, "runs differ in their versions of torch (2.15.0, 3.0): results may differ"),
        ({"device": "cuda (H100)"}, "seconds, images/s and memory are not comparable"),
        ({"status": "failed", "error": "out of memory"}, "conv=dynamic,seed=1 is not in it: failed, out of memory"),
        ({"status": "running"}, "conv=dynamic,seed=1 is not in it: killed, its process ended without a word"),
        ({"seed": 7}, "not all have the same seeds, of which each pair is compared on the common ones"),
        ({"seed": 0}, "several runs have one seed, of which the latest counts: dynamic"),
    ],
)
def test_what_makes_a_comparison_less_believable_is_said(tmp_path, changes, warning):
    write_sweep(tmp_path, {"standard": [0.70, 0.71], "dynamic": [0.70, 0.72]})
    assert report_on(tmp_path).warnings == []
    folder = write_run(tmp_path / "conv=dynamic,seed=1", **{"conv": "dynamic", "seed": 1, "accuracy": 0.72} | changes)
    if changes.get("status"):
        (folder / "metrics.jsonl").unlink()
    warnings = report_on(tmp_path).warnings
    assert any(warning in said for said in warnings), warnings
