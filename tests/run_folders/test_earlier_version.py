"""Run folders of an earlier version can still be listed, compared, evaluated and resumed.

That version wrote the folders in `earlier_version/`, whose names contain `=` and `,`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome

EARLIER_RUNS = Path(__file__).parent / "earlier_version"
SETTINGS = (
    "data.train=160", "data.val=64", "data.test=64", "data.image_size=16", "model.depth=8", "model.widths=[8,8,8]",
    "engine.compile=false", "engine.threads=1", "engine.watch=false", "batch_size=32", "epochs=2",
)  # fmt: skip


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    shutil.copytree(EARLIER_RUNS, tmp_path / "outputs" / "sweeps")
    return tmp_path / "outputs" / "sweeps"


def test_runs_of_an_earlier_version_are_listed_with_their_status(outputs: Path, run_module: Any) -> None:
    done: Outcome = run_module("runs")
    assert done.code == 0
    listed = {line.split()[0]: line.split()[1] for line in done.out.splitlines() if line.startswith("outputs/")}
    assert listed.pop("outputs/sweeps/interrupted:", None)  # the line with its error
    assert listed == {
        "outputs/sweeps/finished": "finished",
        "outputs/sweeps/interrupted": "interrupted",
        "outputs/sweeps/sweep/conv=dynamic,seed=0": "finished",
        "outputs/sweeps/sweep/conv=standard,seed=0": "finished",
    }


def test_runs_of_an_earlier_version_are_compared(outputs: Path, run_here: Any) -> None:
    assert run_here("compare", "outputs/sweeps/sweep").code == 0
    rows = (outputs / "sweep" / "report" / "table.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["standard", "1"], ["dynamic", "1"]]


def test_the_evaluation_of_an_earlier_run_gives_the_score_that_training_recorded(outputs: Path, run_here: Any) -> None:
    assert run_here("evaluate", "run=outputs/sweeps/finished").code == 0
    measured = json.loads((outputs / "finished" / "evaluation" / "test-best" / "metrics.json").read_text())
    trained = json.loads((outputs / "finished" / "results.json").read_text())["best"]["test"]
    assert measured["loss"] == pytest.approx(trained["loss"], abs=1e-4)  # other machines round differently


def test_an_interrupted_run_of_an_earlier_version_resumes_and_keeps_its_metrics(outputs: Path, run_here: Any) -> None:
    before = (outputs / "interrupted" / "metrics.jsonl").read_text()
    done: Outcome = run_here("train", "resume=outputs/sweeps/interrupted")
    assert done.code == 0
    results = json.loads((outputs / "interrupted" / "results.json").read_text())
    assert (results["status"], results["epochs_done"]) == ("finished", 3)
    assert (outputs / "interrupted" / "metrics.jsonl").read_text().startswith(before)
    assert "epoch" in done.out  # the console logger, which that version used without a key in the configuration


def test_a_sweep_given_again_finds_its_jobs_in_folders_with_their_old_names(outputs: Path, run_here: Any) -> None:
    done: Outcome = run_here(
        "train", "-m", "sweep=sweep", "sweep.report=false", "conv=standard,dynamic", "seed=0,1", *SETTINGS
    )
    assert done.code == 0
    assert done.out.count("skipped, already finished: ") == 2
    names = sorted(path.parent.name for path in (outputs / "sweep").glob("*/results.json"))
    assert names == ["conv-dynamic_seed-1", "conv-standard_seed-1", "conv=dynamic,seed=0", "conv=standard,seed=0"]
