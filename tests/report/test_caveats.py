"""Of what a report warns."""

import dataclasses
import json
import re

import pytest

from convbench.report.comparison import make_report
from convbench.report.settings import default_settings
from tests.report.runs import OLD, computed, read_json, write_run, write_sweep


def report_on(folder, **settings):
    return make_report([folder], dataclasses.replace(default_settings(), **settings))


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
        ({"status": "failed", "error": "out of memory"}, "conv=dynamic,seed=1 is not in it: failed, out of memory"),
        ({"status": "running"}, "conv=dynamic,seed=1 is not in it: killed, the process ended without writing a reason"),
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


def circumstances_of(folder):
    """The warnings of runs that were not all computed alike."""
    return [said for said in report_on(folder).warnings if "computed alike" in said]


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("code", "other", "code (0123456789ab, other)"),
        ("torch", "3.0", "torch (2.15.0, 3.0)"),
        ("device", "cuda (H100)", "device (cpu (2 threads), cuda (H100))"),
        ("threads", 1, "threads (1, 2)"),
        ("compiled", True, "compiled (false, true)"),
        ("precision", "bf16", "precision (bf16, none)"),
        ("implementations", "standard: winograd", "implementations (standard: library, standard: winograd)"),
    ],
)
def test_runs_of_a_variant_that_were_not_computed_alike_are_warned_of(tmp_path, key, value, named):
    write_sweep(tmp_path, {"standard": [0.70, 0.71], "dynamic": [0.70, 0.72]})
    write_run(tmp_path / "conv=dynamic,seed=1", "dynamic", 1, 0.72, computed=[computed(**{key: value})])
    (said,) = circumstances_of(tmp_path)
    assert said.startswith("dynamic: ")
    assert said.endswith(named)


def test_whatever_the_record_holds_is_compared(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed, computed=[computed(a_key_of_a_later_version=seed)])
    (said,) = circumstances_of(tmp_path)
    assert said.endswith("a_key_of_a_later_version (0, 1)")


def test_a_run_whose_parts_were_not_computed_alike_is_warned_of(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    parts = [computed(), computed(from_epoch=2, compiled=True, threads=1)]
    write_run(tmp_path / "conv=standard,seed=1", seed=1, computed=parts)
    of_run, of_variant = circumstances_of(tmp_path)
    assert "conv=standard,seed=1, which was resumed" in of_run
    for said in (of_run, of_variant):
        assert said.endswith("compiled (false, true); threads (1, 2)")


def test_variants_that_differ_in_how_all_their_runs_were_computed_are_warned_of(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    of_other = [computed(compiled=True, implementations="dynamic: batched")]
    write_sweep(tmp_path, {"dynamic": [0.70, 0.72]}, computed=of_other)
    (said,) = circumstances_of(tmp_path)
    assert said.startswith("not all variants ")
    assert said.endswith("compiled (false, true)"), "each convolution has implementations of its own"


def test_two_long_texts_that_begin_alike_are_told_apart(tmp_path):
    for seed in (0, 1):
        write_run(
            tmp_path / str(seed), seed=seed, computed=[computed(implementations="layer1: linear, " * 9 + str(seed))]
        )
    (said,) = circumstances_of(tmp_path)
    assert len(said) < 400


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"code": "other"}, "code (0123456789ab, other)"),
        ({"versions": {"torch": "3.0"}}, "torch (2.15.0, 3.0)"),
        ({"device": "cuda (H100)"}, "device (cpu (2 threads), cuda (H100))"),
        ({"compiled": True}, "compiled (false, true)"),
        ({"changes": {"engine.threads": 1}}, "engine.threads (1, 2)"),
    ],
)
def test_of_older_runs_what_they_tell_of_how_they_were_computed_is_compared(tmp_path, changes, named):
    write_run(tmp_path / "a", seed=0, without=OLD)
    write_run(tmp_path / "b", seed=1, without=OLD, **changes)
    (said,) = circumstances_of(tmp_path)
    assert said.endswith(named)
    assert any("older version" in warning and "a, b" in warning for warning in report_on(tmp_path).warnings)


def test_variants_that_were_not_tested_on_the_same_images_are_warned_of(tmp_path):
    splits = {"train": {"digest": "train"}, "val": {"digest": "val"}, "test": {"digest": "other"}}
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    write_sweep(tmp_path, {"dynamic": [0.70, 0.72]}, identity={"splits": splits})
    (said,) = report_on(tmp_path).warnings
    assert "not all were tested on the same test images" in said


def test_runs_of_a_variant_that_did_not_have_the_same_images_are_warned_of(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    splits = {"train": {"digest": "one file more"}, "val": {"digest": "val"}, "test": None}
    write_run(tmp_path / "conv=standard,seed=1", seed=1, identity={"splits": splits})
    assert report_on(tmp_path).warnings == ["all runs: not all runs had the same training images"]


def test_digests_of_pixels_and_of_files_are_not_compared(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    splits = {"test": {"digest": "of files", "of": "names and sizes of files", "images": 10_000}}
    write_run(tmp_path / "conv=standard,seed=1", seed=1, identity={"splits": splits})
    assert report_on(tmp_path).warnings == []


def test_variants_at_the_level_of_chance_are_named(tmp_path):
    write_sweep(tmp_path, {"standard": [0.52, 0.53], "dynamic": [0.80, 0.82]}, test_images=64, class_count=2)
    (said,) = report_on(tmp_path).warnings
    assert "50 %" in said
    assert said.endswith(": standard")


def test_networks_that_predict_one_class_only_are_named_with_their_seeds(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72]})
    for seed in (0, 2):
        score = {"loss": 2.3, "accuracy": 0.7, "correct": 7000, "images": 10_000, "predicted_classes": 1}
        write_run(tmp_path / f"conv=standard,seed={seed}", seed=seed, test=score)
    (said,) = report_on(tmp_path).warnings
    assert said.startswith("all runs: ")
    assert said.endswith("seed 0, 2")


@pytest.mark.parametrize("accuracy", ["NaN", "Infinity", "1.5", "-0.1", '"high"', "null"])
def test_what_can_be_no_accuracy_is_left_out_and_said(tmp_path, accuracy):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72]})
    path = tmp_path / "conv=standard,seed=2" / "results.json"
    results = read_json(path) | {"test": {"loss": 1.0, "accuracy": 0.123456789}}
    path.write_text(json.dumps(results).replace("0.123456789", accuracy))
    report = report_on(tmp_path)
    assert report.columns[0].mean(report.comparison.variants[0]) == pytest.approx(70.5)
    assert any("conv=standard,seed=2" in said for said in report.warnings)


def test_how_often_a_run_logs_tells_variants_apart_as_its_hash_does(tmp_path):
    for log_every in (5, 10):
        for seed in (0, 1):
            folder = tmp_path / f"{log_every}{seed}"
            write_run(folder, seed=seed, changes={"engine.log_every": log_every})
    labels = [variant.label for variant in report_on(tmp_path).comparison.variants]
    assert labels == ["engine.log_every=5", "engine.log_every=10"]
