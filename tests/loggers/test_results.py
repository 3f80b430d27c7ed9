import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from convbench.loggers.results import Results
from convbench.run_folders.run_folder import RunFolder
from tests.loggers.rows import epoch_row


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    made.update_results(status="running", best=None)
    return made


def saved(folder: RunFolder) -> dict:
    return json.loads(folder.results_path.read_text())


def test_each_epoch_appends_a_row_with_the_documented_keys(folder: RunFolder) -> None:
    results = Results(folder, time.perf_counter(), epochs_done=0)
    rows = [epoch_row(1, temperature=30.0), epoch_row(2)]
    for row in rows:
        results.on_epoch_end(row, images_seen=0, is_best=False)
    lines = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    assert lines == [asdict(row) for row in rows]
    assert " ".join(lines[0]) == (
        "epoch step train_loss train_accuracy val_loss val_accuracy lr temperature seconds images_per_second"
    )


def test_results_are_updated_after_every_epoch(folder: RunFolder) -> None:
    results = Results(folder, time.perf_counter() - 100, epochs_done=0)
    for epoch in (1, 2):
        results.on_epoch_end(epoch_row(epoch, train_loss=1 / epoch, val_accuracy=epoch / 10), 0, is_best=False)
        got = saved(folder)
        assert got["train"] == {"loss": 1 / epoch, "accuracy": 0.4}
        assert got["val"] == {"loss": 1.25, "accuracy": epoch / 10}
        assert got["epochs_done"] == epoch
        assert 100 <= got["seconds_total"] < 160
    assert got["status"] == "running"  # other entries are kept


def test_the_speed_is_the_median_of_the_epochs_after_the_first(folder: RunFolder) -> None:
    results = Results(folder, time.perf_counter(), epochs_done=0)
    medians = []
    for epoch, seconds in enumerate([90.0, 3.0, 1.0, 50.0, 4.0], start=1):
        results.on_epoch_end(epoch_row(epoch, seconds=seconds, images_per_second=100 / seconds), 0, is_best=False)
        medians.append((saved(folder)["seconds_per_epoch"], saved(folder)["images_per_second"]))
    assert [seconds for seconds, _ in medians] == [90.0, 3.0, 2.0, 3.0, 3.5]
    assert medians[3][1] == pytest.approx(100 / 3)


def test_the_best_epoch_is_kept_until_a_better_one(folder: RunFolder) -> None:
    results = Results(folder, time.perf_counter(), epochs_done=0)
    best = []
    for epoch, is_best in enumerate([True, False, True, False], start=1):
        results.on_epoch_end(epoch_row(epoch, val_loss=epoch, val_accuracy=epoch / 8), 0, is_best)
        best.append(saved(folder)["best"])
    first, third = ({"epoch": epoch, "val": {"loss": epoch, "accuracy": epoch / 8}} for epoch in (1, 3))
    assert best == [first, first, third, third]


def test_a_resumed_run_continues_after_the_rows_of_its_checkpoint(folder: RunFolder) -> None:
    before = Results(folder, time.perf_counter(), epochs_done=0)
    for epoch, seconds in enumerate([90.0, 3.0, 70.0], start=1):
        before.on_epoch_end(epoch_row(epoch, seconds=seconds), 0, is_best=False)
    resumed = Results(folder, time.perf_counter(), epochs_done=2)
    resumed.on_epoch_end(epoch_row(3, seconds=5.0), 0, is_best=False)
    lines = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    assert [(line["epoch"], line["seconds"]) for line in lines] == [(1, 90.0), (2, 3.0), (3, 5.0)]
    assert saved(folder)["seconds_per_epoch"] == 4.0
