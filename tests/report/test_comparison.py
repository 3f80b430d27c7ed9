"""The report as a whole: what is read, what is written, which numbers it shows."""

import csv
import dataclasses

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


def test_the_command_writes_table_figures_page_and_boards_and_says_where(run_here, sweep, tmp_path):
    done = run_here("compare", str(sweep))
    assert done.code == 0
    report = sweep / "report"
    for name in ("curves_epochs", "curves_seconds", "curves_images", "curves_flops", "pareto", "gap"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (report / f"{name}.svg").read_text()
    assert f"report: {report}/index.html" in done.out
    assert "dynamic   3  81.17 ± 3.13 *" in done.out
    assert "dynamic is better than standard by 10.2 points" in done.out
    assert max(map(len, done.out.partition("±")[0].splitlines())) <= 80


def test_a_report_is_made_again_in_its_place_and_never_read_as_a_run(run_here, sweep):
    assert run_here("compare", str(sweep)).code == 0
    before = (sweep / "report" / "table.md").read_text()
    assert run_here("compare", str(sweep)).code == 0
    assert (sweep / "report" / "table.md").read_text() == before


def test_several_folders_and_single_runs_are_compared_in_one_report(run_here, sweep, tmp_path):
    other = write_sweep(tmp_path / "other", {"weighted_sum": [0.6, 0.62, 0.61]})
    runs = sorted(map(str, other.iterdir()))  # conv=weighted_sum,seed=0: as overrides they would look
    done = run_here("compare", str(sweep), *runs)
    assert done.code == 0
    assert set(rows_of(tmp_path / "outputs" / "report")) == {"standard", "dynamic", "weighted_sum"}


def test_the_table_has_mean_deviation_and_interval_of_each_number(run_here, sweep):
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


def test_epochs_to_a_target_count_from_the_first_that_reaches_it(run_here, sweep):
    run_here("compare", str(sweep), "target_accuracy=50")
    # validation accuracy rises evenly over three epochs to 0.7 and more: 0.23, 0.47, 0.7; to 0.8: 0.27, 0.53
    rows = rows_of(sweep / "report")
    assert float(rows["standard"]["epochs_to_target"]) == 3
    assert float(rows["dynamic"]["epochs_to_target"]) == 2


def test_the_target_by_default_is_one_that_all_variants_reach(sweep):
    (column,) = [column for column in report_on(sweep).columns if column.key == "epochs_to_target"]
    assert column.title == "epochs to 71 %"


def test_a_winner_is_marked_only_where_it_is_better_by_more_than_chance(tmp_path):
    close = write_sweep(tmp_path / "close", {"standard": [0.70, 0.71, 0.72], "dynamic": [0.73, 0.70, 0.72]})
    clear = write_sweep(tmp_path / "clear", ACCURACIES)
    for folder, winner in ((close, None), (clear, "dynamic")):
        report = report_on(folder)
        best = dict(zip([column.key for column in report.columns], report.best, strict=True))
        assert (best["test_accuracy"].label if best["test_accuracy"] else None) == winner
        assert best["seconds_per_epoch"] is None, "all took the same time"


def test_seconds_without_a_spread_have_no_winner(tmp_path):
    for seed in (0, 1, 2):
        for conv, seconds in (("standard", 2.0), ("dynamic", 3.0)):
            write_run(tmp_path / f"{conv}{seed}", conv, seed, seconds_per_epoch=seconds, params=1000 * seconds)
    report = report_on(tmp_path)
    best = {column.key: variant for column, variant in zip(report.columns, report.best, strict=True)}
    assert best["seconds_per_epoch"] is None
    assert best["params"].label == "standard", "which is no matter of chance"


def test_the_star_and_the_sentences_go_by_the_same_comparisons(tmp_path):
    """Of three variants, the best beats both others at p = 0.02: of two comparisons enough, of three too little."""
    base = [0.70, 0.71, 0.72]
    best = [value + 0.02 + step for value, step in zip(base, (0.002, -0.003, 0.001), strict=True)]
    write_sweep(tmp_path, {"standard": base, "same": [0.7001, 0.7098, 0.7202], "best": best})
    report = report_on(tmp_path)
    clear = [said for said in report.findings if said.startswith(("best is better than", "same is worse than best"))]
    assert (len(clear) == 2) is (report.best[0] is not None)


def test_a_winner_needs_to_beat_every_other(tmp_path):
    folder = write_sweep(tmp_path, ACCURACIES | {"rival": [0.801, 0.809, 0.826]})
    report = report_on(folder)
    assert report.best[0] is None


def test_fewer_parameters_are_better_without_any_statistics(tmp_path):
    write_run(tmp_path / "a", "standard", params=1000)
    write_run(tmp_path / "b", "dynamic", params=4000)
    report = report_on(tmp_path)
    best = {column.key: variant for column, variant in zip(report.columns, report.best, strict=True)}
    assert best["params"].label == "standard"
    assert best["macs"] is None


def test_a_key_within_an_option_tells_its_variants_apart(tmp_path):
    for k in (2, 4):
        write_run(tmp_path / f"dynamic{k}", "dynamic", changes={"conv.num_experts": k})
    write_run(tmp_path / "standard")
    labels = [variant.label for variant in report_on(tmp_path).comparison.variants]
    assert labels == [
        "standard, conv.num_experts=-",
        "dynamic, conv.num_experts=2",
        "dynamic, conv.num_experts=4",
    ]


def test_what_an_option_brings_along_is_no_key_of_its_own(tmp_path):
    write_run(tmp_path / "a", "standard")
    write_run(tmp_path / "b", "dynamic", changes={"conv.num_experts": 4, "conv.skip": ["first"]})
    assert report_on(tmp_path).comparison.keys == ["conv"]


def test_where_and_with_how_many_threads_a_run_took_place_is_no_variant(tmp_path):
    write_run(tmp_path / "a", seed=0, changes={"datasets": "/a", "data.root": "${datasets}/cats"})
    write_run(tmp_path / "b", seed=1, changes={"datasets": "/b", "data.root": "${datasets}/cats", "engine.threads": 8})
    assert len(report_on(tmp_path).comparison.variants) == 1


def test_other_keys_than_conv_can_be_compared(run_here, tmp_path):
    for lr in (0.1, 0.05, 0.2):
        for seed in (0, 1):
            write_run(tmp_path / f"{lr}{seed}", seed=seed, accuracy=lr + 0.01 * seed, changes={"optimizer.lr": lr})
    assert [variant.label for variant in report_on(tmp_path).comparison.variants] == [
        "optimizer.lr=0.05", "optimizer.lr=0.1", "optimizer.lr=0.2",
    ]  # fmt: skip
    refused = run_here("compare", str(tmp_path), "by=epochs")
    assert refused.code == 2
    assert "epochs is the same in all runs; what varies: optimizer.lr (by)" in refused.err


def test_broken_folders_are_named_and_the_others_compared(sweep):
    (sweep / "conv=standard,seed=0" / "results.json").write_text('{"status": "fin')
    (sweep / "conv=standard,seed=1" / "results.json").unlink()
    warnings = report_on(sweep).warnings
    assert any("conv=standard,seed=0 cannot be read: results.json is no JSON" in warning for warning in warnings)
    assert any("conv=standard,seed=1 cannot be read: there is no results.json" in w for w in warnings)
    assert any("one run says nothing of spread: standard" in warning for warning in warnings)


def test_half_a_line_of_a_killed_run_is_passed_over(sweep):
    with (sweep / "conv=standard,seed=0" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train')
    assert len(report_on(sweep).curves[0].x["epochs"]) == 3


def test_curves_have_the_mean_and_one_deviation_to_each_side_on_every_axis(sweep):
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


def test_the_front_joins_what_no_other_variant_beats_in_both(tmp_path):
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


def test_boards_have_three_runs_a_variant_with_the_tags_of_a_single_run(run_here, sweep):
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


def test_the_page_links_from_its_own_folder_to_those_of_the_runs(sweep, tmp_path):
    data = page_data(report_on(sweep), tmp_path / "elsewhere" / "report")
    for variant in data["variants"]:
        for run in variant["runs"]:
            assert (tmp_path / "elsewhere" / "report" / run["folder"] / "results.json").resolve().exists()
            assert run["command"].startswith("python -m convbench.train conv=")


def test_a_data_set_without_test_images_is_compared_on_validation(tmp_path):
    for conv, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            write_run(tmp_path / f"{conv}{seed}", conv, seed, accuracy, test=None)
    report = report_on(tmp_path)
    assert report.findings[0].startswith("dynamic is better than standard by 10.2 points")
    assert report.columns[0].text(report.comparison.variants[0]) == ""
    write_report([tmp_path], tmp_path / "report", default_settings())


def test_runs_that_have_nothing_to_show_yet_give_a_report_that_says_so(tmp_path):
    folder = write_run(tmp_path / "a", status="failed", error="out of memory", test=None, val=None, best=None)
    (folder / "metrics.jsonl").unlink()
    said = write_report([tmp_path], tmp_path / "report", default_settings())
    assert "no run has finished" in said
    assert "a is not in it: failed, out of memory" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no folder nowhere; give folders of runs or of sweeps (folders)"),
        (["."], "there are no runs in .: give the folder of a sweep (folders)"),
        ([], "folders has no default value: give folders=..."),
        ([".", "test=anova"], "test=anova is out of range: give one of t, wilcoxon (test)"),
        ([".", "difference=0"], "difference=0 is out of range: give a number above 0"),
        ([".", "target_accuracy=200"], "target_accuracy=200 is out of range: give a number above 0"),
    ],
)
def test_a_slip_is_answered_in_a_sentence(run_here, arguments, said):
    done = run_here("compare", *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_key_that_no_run_has_is_no_key_to_compare_by(sweep, run_here):
    done = run_here("compare", str(sweep), "by=[optimizer.lrr]")
    assert done.code == 2
    assert "optimizer.lr," in done.err.partition("optimizer.lrr: choose ")[2]


def test_a_report_can_be_made_while_a_sweep_goes_on(sweep):
    write_run(sweep / "conv=dynamic,seed=9", "dynamic", 9, status="running", test=None)
    assert any("seed=9 is not in it: killed" in warning for warning in report_on(sweep).warnings)
