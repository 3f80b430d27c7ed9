"""Tests of the whole report: the runs that it reads, the files that it writes and the numbers that it shows."""

import csv
import dataclasses
import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from convbench.report.comparison import make_report
from convbench.report.page_data import page_data
from convbench.report.settings import default_settings
from convbench.report.writing import write_report
from tests.report.runs import write_run, write_sweep

ACCURACIES = {"standard": [0.70, 0.71, 0.72], "dynamic": [0.80, 0.81, 0.825]}


def report_on(folder, **settings):
    return make_report([folder], dataclasses.replace(default_settings(), **settings))


def rows_of(folder):
    with (folder / "table.csv").open() as file:
        return {row["conv"]: row for row in csv.DictReader(file)}


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "sweep", ACCURACIES)


def test_the_command_writes_tables_figures_and_the_page_and_prints_the_path(run_here, sweep, tmp_path):
    done = run_here("compare", str(sweep))
    assert done.code == 0
    report = sweep / "report"
    for name in ("curves_epochs", "curves_seconds", "curves_images", "curves_flops", "pareto", "gap"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (report / f"{name}.svg").read_text()
    assert f"report: {report}/index.html" in done.out
    assert "dynamic   3  81.17 ± 3.13 *" in done.out
    assert "dynamic is better than standard" in done.out
    assert "10.2 points" in done.out
    assert max(map(len, done.out.partition("±")[0].splitlines())) <= 80


def test_a_second_report_replaces_the_first_one_and_is_not_read_as_a_run(run_here, sweep):
    assert run_here("compare", str(sweep)).code == 0
    before = (sweep / "report" / "table.md").read_text()
    assert run_here("compare", str(sweep)).code == 0
    assert (sweep / "report" / "table.md").read_text() == before


def test_several_folders_and_single_runs_are_compared_in_one_report(run_here, sweep, tmp_path):
    other = write_sweep(tmp_path / "other", {"weighted_sum": [0.6, 0.62, 0.61]})
    runs = sorted(map(str, other.iterdir()))  # names such as conv=weighted_sum,seed=0 look like overrides
    done = run_here("compare", str(sweep), *runs)
    assert done.code == 0
    assert set(rows_of(tmp_path / "outputs" / "report")) == {"standard", "dynamic", "weighted_sum"}


def test_the_csv_table_has_mean_deviation_and_interval_of_each_column(run_here, sweep):
    run_here("compare", str(sweep))
    row = rows_of(sweep / "report")["standard"]
    assert row["n"] == "3"
    assert float(row["test_accuracy"]) == pytest.approx(71)
    assert float(row["test_accuracy_deviation"]) == pytest.approx(1)
    assert float(row["test_accuracy_half_interval"]) == pytest.approx(4.30265 / 3**0.5, rel=1e-5)  # t(0.975, 2)
    assert float(row["params"]) == 1000
    assert float(row["macs"]) == 2
    assert float(row["seconds_per_epoch"]) == 2
    assert (float(row["seconds_per_epoch_deviation"]), row["seconds_per_epoch_half_interval"]) == (0, "")


def test_epochs_to_target_is_the_first_epoch_that_reaches_the_target(run_here, sweep):
    run_here("compare", str(sweep), "target_accuracy=50")
    # The validation accuracy rises linearly over three epochs: 0.23, 0.47, 0.7 (standard); 0.27, 0.53, 0.8 (dynamic).
    rows = rows_of(sweep / "report")
    assert float(rows["standard"]["epochs_to_target"]) == 3
    assert float(rows["dynamic"]["epochs_to_target"]) == 2


def test_the_default_target_is_reached_by_all_variants(sweep):
    (column,) = [column for column in report_on(sweep).columns if column.key == "epochs_to_target"]
    assert column.title == "epochs to 71 %"


def test_the_best_variant_is_marked_only_if_it_is_significantly_better(tmp_path):
    close = write_sweep(tmp_path / "close", {"standard": [0.70, 0.71, 0.72], "dynamic": [0.73, 0.70, 0.72]})
    clear = write_sweep(tmp_path / "clear", ACCURACIES)
    for folder, winner in ((close, None), (clear, "dynamic")):
        report = report_on(folder)
        best = dict(zip([column.key for column in report.columns], report.best, strict=True))
        assert (best["test_accuracy"].label if best["test_accuracy"] else None) == winner
        assert best["seconds_per_epoch"] is None, "all took the same time"


def test_seconds_that_do_not_vary_between_seeds_have_no_best_variant(tmp_path):
    for seed in (0, 1, 2):
        for conv, seconds in (("standard", 2.0), ("dynamic", 3.0)):
            write_run(tmp_path / f"{conv}{seed}", conv, seed, seconds_per_epoch=seconds, params=1000 * seconds)
    report = report_on(tmp_path)
    best = {column.key: variant for column, variant in zip(report.columns, report.best, strict=True)}
    assert best["seconds_per_epoch"] is None
    assert best["params"].label == "standard", "the number of parameters needs no test"


def test_the_mark_of_the_best_variant_agrees_with_the_findings(tmp_path):
    """The best of three variants beats both others at p = 0.02: significant for two comparisons, but not for three."""
    base = [0.70, 0.71, 0.72]
    best = [value + 0.02 + step for value, step in zip(base, (0.002, -0.003, 0.001), strict=True)]
    write_sweep(tmp_path, {"standard": base, "same": [0.7001, 0.7098, 0.7202], "best": best})
    report = report_on(tmp_path)
    significant = [
        text for text in report.findings if text.startswith(("best is better than", "same is worse than best"))
    ]
    assert (len(significant) == 2) is (report.best[0] is not None)


def test_the_best_variant_has_to_beat_every_other_variant(tmp_path):
    folder = write_sweep(tmp_path, ACCURACIES | {"rival": [0.801, 0.809, 0.826]})
    report = report_on(folder)
    assert report.best[0] is None


def test_the_variant_with_fewest_parameters_is_best_without_a_test(tmp_path):
    write_run(tmp_path / "a", "standard", params=1000)
    write_run(tmp_path / "b", "dynamic", params=4000)
    report = report_on(tmp_path)
    best = {column.key: variant for column, variant in zip(report.columns, report.best, strict=True)}
    assert best["params"].label == "standard"
    assert best["macs"] is None


def test_a_key_that_differs_within_an_option_separates_variants(tmp_path):
    for k in (2, 4):
        write_run(tmp_path / f"dynamic{k}", "dynamic", changes={"conv.num_experts": k})
    write_run(tmp_path / "standard")
    labels = [variant.label for variant in report_on(tmp_path).comparison.variants]
    assert labels == [
        "standard, conv.num_experts=-",
        "dynamic, conv.num_experts=2",
        "dynamic, conv.num_experts=4",
    ]


def test_keys_that_differ_only_because_the_options_differ_are_not_listed(tmp_path):
    write_run(tmp_path / "a", "standard")
    write_run(tmp_path / "b", "dynamic", changes={"conv.num_experts": 4, "conv.skip": ["first"]})
    assert report_on(tmp_path).comparison.keys == ["conv"]


def test_the_folder_of_the_data_sets_and_the_number_of_threads_do_not_separate_variants(tmp_path):
    write_run(tmp_path / "a", seed=0, changes={"datasets": "/a", "data.root": "${datasets}/cats"})
    write_run(tmp_path / "b", seed=1, changes={"datasets": "/b", "data.root": "${datasets}/cats", "engine.threads": 8})
    assert len(report_on(tmp_path).comparison.variants) == 1


def test_keys_other_than_conv_can_be_compared(run_here, tmp_path):
    for lr in (0.1, 0.05, 0.2):
        for seed in (0, 1):
            write_run(tmp_path / f"{lr}{seed}", seed=seed, accuracy=lr + 0.01 * seed, changes={"optimizer.lr": lr})
    assert [variant.label for variant in report_on(tmp_path).comparison.variants] == [
        "optimizer.lr=0.05", "optimizer.lr=0.1", "optimizer.lr=0.2",
    ]  # fmt: skip
    refused = run_here("compare", str(tmp_path), "by=epochs")
    assert refused.code == 2
    assert "epochs" in refused.err
    assert "optimizer.lr (by)" in refused.err


def test_unreadable_run_folders_give_a_warning_and_the_other_runs_are_compared(sweep):
    (sweep / "conv=standard,seed=0" / "results.json").write_text('{"status": "fin')
    (sweep / "conv=standard,seed=1" / "results.json").unlink()
    warnings = report_on(sweep).warnings
    for seed in (0, 1):
        (warning,) = [text for text in warnings if f"conv=standard,seed={seed} cannot be read: " in text]
        assert "results.json" in warning
    assert any(warning.endswith(": standard (n=1)") for warning in warnings)


def test_an_incomplete_line_of_a_killed_run_is_ignored(sweep):
    with (sweep / "conv=standard,seed=0" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train')
    assert len(report_on(sweep).curves[0].x["epochs"]) == 3


def test_curves_have_mean_and_standard_deviation_over_every_x_axis(sweep):
    curve = report_on(sweep).curves[0]
    assert curve.x["epochs"] == [1, 2, 3]
    assert curve.x["seconds"] == [2, 4, 6]
    assert curve.x["images"] == [100, 200, 300]
    assert curve.x["flops"] == [100 * 6 * 2_000_000 * epoch for epoch in (1, 2, 3)]
    accuracy = curve.y["val_accuracy"]
    assert accuracy["mean"][-1] == pytest.approx(71)
    assert (accuracy["low"][-1], accuracy["high"][-1]) == pytest.approx((70, 72))
    assert curve.y["gap_loss"]["mean"] == pytest.approx([0.1, 0.1, 0.1])
    assert curve.y["gap_accuracy"]["mean"] == pytest.approx([5, 5, 5])


def test_the_pareto_front_holds_the_variants_for_which_no_other_is_cheaper_and_better(tmp_path):
    for conv, accuracy, params in (
        ("standard", 0.7, 100),
        ("bad", 0.65, 200),
        ("good", 0.8, 300),
        ("worse", 0.75, 400),
    ):
        write_run(tmp_path / conv, conv, accuracy=accuracy, params=params)
    report = report_on(tmp_path)
    front = {v.label: p.front["params"] for v, p in zip(report.comparison.variants, report.points, strict=True)}
    assert front == {"standard": True, "bad": False, "good": True, "worse": False}


def test_tensorboard_has_three_runs_for_each_variant_with_the_tags_of_a_training_run(run_here, sweep):
    run_here("compare", str(sweep))
    board = sweep / "report" / "tensorboard"
    assert {path.name for path in board.iterdir()} == {"standard", "dynamic"}
    values = {}
    for part in ("mean - sigma", "mean", "mean + sigma"):
        events = EventAccumulator(str(board / "standard" / part)).Reload()
        assert set(events.Tags()["scalars"]) == {"loss/train", "loss/val", "accuracy/train", "accuracy/val"}
        points = events.Scalars("accuracy/val")
        assert [point.step for point in points] == [100, 200, 300]
        values[part] = points[-1].value
    assert list(values.values()) == pytest.approx([0.70, 0.71, 0.72])


def test_the_page_links_to_run_folders_relative_to_its_own_folder(sweep, tmp_path):
    data = page_data(report_on(sweep), tmp_path / "elsewhere" / "report")
    for variant in data["variants"]:
        for run in variant["runs"]:
            assert (tmp_path / "elsewhere" / "report" / run["folder"] / "results.json").resolve().exists()
            assert run["command"].startswith("python -m convbench.train conv=")


def test_runs_without_a_test_set_are_compared_on_the_validation_set(tmp_path):
    for conv, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            write_run(tmp_path / f"{conv}{seed}", conv, seed, accuracy, test=None)
    report = report_on(tmp_path)
    assert report.split == "val"
    assert report.findings[0].startswith("dynamic is better than standard ")
    assert "10.2 points" in report.findings[0]
    assert report.columns[0].text(report.comparison.variants[0]) == ""
    write_report([tmp_path], tmp_path / "report", default_settings())


def test_a_report_on_unfinished_runs_names_them_and_their_errors(tmp_path):
    folder = write_run(tmp_path / "a", status="failed", error="out of memory", test=None, val=None, best=None)
    (folder / "metrics.jsonl").unlink()
    text = write_report([tmp_path], tmp_path / "report", default_settings())
    assert "note: these variants have no finished run" in text
    assert re.search(r"note: a .*: failed, out of memory$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["nowhere"], [" nowhere", "(folders)"]),
        (["."], ["no runs", " .", "(folders)"]),
        ([], ["folders=..."]),
        ([".", "test=anova"], ["test=anova", "t, wilcoxon (test)"]),
        ([".", "difference=0"], ["difference=0", "above 0", "(difference)"]),
        ([".", "target_accuracy=200"], ["target_accuracy=200", "(target_accuracy)"]),
    ],
)
def test_an_invalid_argument_exits_with_2_and_a_message(run_here, arguments, facts):
    done = run_here("compare", *arguments)
    assert done.code == 2
    for fact in facts:
        assert fact in done.err


def test_a_key_to_compare_by_that_no_run_has_is_refused_with_similar_keys(sweep, run_here):
    done = run_here("compare", str(sweep), "by=[optimizer.lrr]")
    assert done.code == 2
    assert "optimizer.lr," in done.err.partition("optimizer.lrr")[2]


def test_a_report_can_be_made_while_a_sweep_is_running(sweep):
    write_run(sweep / "conv=dynamic,seed=9", "dynamic", 9, status="running", test=None)
    assert any(
        warning.startswith("conv=dynamic,seed=9 ") and ": killed" in warning for warning in report_on(sweep).warnings
    )
