"""Tests of the warnings of a report."""

import dataclasses
import json
import re

import pytest

from convbench.report.comparison import make_report
from convbench.report.settings import default_settings
from tests.report.runs import OLD, computed, read_json, write_run, write_sweep


def report_on(folder, **settings):
    return make_report([folder], dataclasses.replace(default_settings(), **settings))


def test_variants_that_differ_in_a_key_that_is_not_compared_give_a_warning(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", "standard", seed)
        write_run(tmp_path / f"b{seed}", "dynamic", seed, changes={"optimizer.lr": 0.05})
    (warning,) = report_on(tmp_path).warnings
    assert warning.startswith("standard, optimizer.lr=0.1, dynamic, optimizer.lr=0.05 ")
    assert " in conv, but also in optimizer.lr, " in warning


def test_variants_are_compared_only_with_those_that_are_equal_in_all_other_keys(tmp_path):
    for lr in (0.1, 0.05):
        for conv in ("standard", "dynamic"):
            for seed in (0, 1):
                write_run(tmp_path / f"{conv}{lr}{seed}", conv, seed, 0.7 + 0.01 * seed, changes={"optimizer.lr": lr})
    report = report_on(tmp_path)
    assert len(report.findings) == 2
    for finding in report.findings:
        assert len(set(re.findall(r"optimizer\.lr=([\d.]+)", finding))) == 1, finding
    assert report.warnings == []


@pytest.mark.parametrize(
    ("changes", "start", "end"),
    [
        ({"status": "failed", "error": "out of memory"}, "conv=dynamic,seed=1 ", ": failed, out of memory"),
        ({"status": "running"}, "conv=dynamic,seed=1 ", ""),
        ({"seed": 7}, "the variants do not all have the same seeds", ": standard, dynamic"),
        ({"seed": 0}, "several runs have the same seed", ": dynamic"),
    ],
)
def test_unfinished_runs_and_different_or_duplicate_seeds_give_a_warning(tmp_path, changes, start, end):
    write_sweep(tmp_path, {"standard": [0.70, 0.71], "dynamic": [0.70, 0.72]})
    assert report_on(tmp_path).warnings == []
    folder = write_run(tmp_path / "conv=dynamic,seed=1", **{"conv": "dynamic", "seed": 1, "accuracy": 0.72} | changes)
    if changes.get("status"):
        (folder / "metrics.jsonl").unlink()
    warnings = report_on(tmp_path).warnings
    assert any(warning.startswith(start) and warning.endswith(end) for warning in warnings), warnings
    assert any(": killed" in warning for warning in warnings) is (changes.get("status") == "running")


def computation_warnings(folder):
    """The warnings of runs that were computed differently."""
    return [warning for warning in report_on(folder).warnings if "under the same conditions" in warning]


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
def test_runs_of_a_variant_that_were_computed_differently_give_a_warning(tmp_path, key, value, named):
    write_sweep(tmp_path, {"standard": [0.70, 0.71], "dynamic": [0.70, 0.72]})
    write_run(tmp_path / "conv=dynamic,seed=1", "dynamic", 1, 0.72, computed=[computed(**{key: value})])
    (warning,) = computation_warnings(tmp_path)
    assert warning.startswith("dynamic: ")
    assert warning.endswith(named)


def test_keys_of_a_later_version_are_compared_too(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed, computed=[computed(a_key_of_a_later_version=seed)])
    (warning,) = computation_warnings(tmp_path)
    assert warning.endswith("a_key_of_a_later_version (0, 1)")


def test_a_resumed_run_whose_parts_were_computed_differently_gives_a_warning(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    parts = [computed(), computed(from_epoch=2, compiled=True, threads=1)]
    write_run(tmp_path / "conv=standard,seed=1", seed=1, computed=parts)
    run_warning, variant_warning = computation_warnings(tmp_path)
    assert run_warning.startswith("conv=standard,seed=1, ")
    assert variant_warning.startswith("all runs: ")
    for warning in (run_warning, variant_warning):
        assert warning.endswith("compiled (false, true); threads (1, 2)")


def test_variants_that_were_computed_differently_give_a_warning(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    parts = [computed(compiled=True, implementations="dynamic: batched")]
    write_sweep(tmp_path, {"dynamic": [0.70, 0.72]}, computed=parts)
    (warning,) = computation_warnings(tmp_path)
    assert warning.startswith("not all variants ")
    assert warning.endswith(": compiled (false, true)"), (
        "implementations differ between convolutions, so they are ignored"
    )


def test_long_values_with_the_same_beginning_differ_and_are_shortened(tmp_path):
    for seed in (0, 1):
        write_run(
            tmp_path / str(seed), seed=seed, computed=[computed(implementations="layer1: linear, " * 9 + str(seed))]
        )
    (warning,) = computation_warnings(tmp_path)
    assert len(warning) < 400


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
def test_runs_of_older_versions_are_compared_by_the_values_that_they_record(tmp_path, changes, named):
    write_run(tmp_path / "a", seed=0, without=OLD)
    write_run(tmp_path / "b", seed=1, without=OLD, **changes)
    (warning,) = computation_warnings(tmp_path)
    assert warning.endswith(named)
    assert any(warning.endswith(": a, b") for warning in report_on(tmp_path).warnings)


def test_variants_that_were_tested_on_different_images_give_a_warning(tmp_path):
    splits = {"train": {"digest": "train"}, "val": {"digest": "val"}, "test": {"digest": "other"}}
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    write_sweep(tmp_path, {"dynamic": [0.70, 0.72]}, identity={"splits": splits})
    (warning,) = report_on(tmp_path).warnings
    assert "same test images" in warning
    assert warning.endswith(": standard, dynamic")


def test_runs_of_a_variant_that_had_different_images_give_a_warning(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    splits = {"train": {"digest": "one file more"}, "val": {"digest": "val"}, "test": None}
    write_run(tmp_path / "conv=standard,seed=1", seed=1, identity={"splits": splits})
    (warning,) = report_on(tmp_path).warnings
    assert warning.startswith("all runs: ")
    assert warning.endswith(" the same training images")


def test_digests_of_pixels_are_not_compared_with_digests_of_files(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71]})
    splits = {"test": {"digest": "of files", "of": "names and sizes of files", "images": 10_000}}
    write_run(tmp_path / "conv=standard,seed=1", seed=1, identity={"splits": splits})
    assert report_on(tmp_path).warnings == []


def test_variants_at_the_level_of_chance_give_a_warning(tmp_path):
    write_sweep(tmp_path, {"standard": [0.52, 0.53], "dynamic": [0.80, 0.82]}, test_images=64, class_count=2)
    (warning,) = report_on(tmp_path).warnings
    assert "50 %" in warning
    assert warning.endswith(": standard")


def test_networks_that_predict_only_one_class_give_a_warning_with_their_seeds(tmp_path):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72]})
    for seed in (0, 2):
        score = {"loss": 2.3, "accuracy": 0.7, "correct": 7000, "images": 10_000, "predicted_classes": 1}
        write_run(tmp_path / f"conv=standard,seed={seed}", seed=seed, test=score)
    (warning,) = report_on(tmp_path).warnings
    assert warning.startswith("all runs: ")
    assert warning.endswith("seed 0, 2")


@pytest.mark.parametrize("accuracy", ["NaN", "Infinity", "1.5", "-0.1", '"high"', "null"])
def test_an_invalid_accuracy_is_left_out_and_gives_a_warning(tmp_path, accuracy):
    write_sweep(tmp_path, {"standard": [0.70, 0.71, 0.72]})
    path = tmp_path / "conv=standard,seed=2" / "results.json"
    results = read_json(path) | {"test": {"loss": 1.0, "accuracy": 0.123456789}}
    path.write_text(json.dumps(results).replace("0.123456789", accuracy))
    report = report_on(tmp_path)
    assert report.columns[0].mean(report.comparison.variants[0]) == pytest.approx(70.5)
    assert any("conv=standard,seed=2" in warning for warning in report.warnings)


def test_runs_with_different_logging_intervals_are_different_variants(tmp_path):
    for log_every in (5, 10):
        for seed in (0, 1):
            folder = tmp_path / f"{log_every}{seed}"
            write_run(folder, seed=seed, changes={"engine.log_every": log_every})
    labels = [variant.label for variant in report_on(tmp_path).comparison.variants]
    assert labels == ["engine.log_every=5", "engine.log_every=10"]
