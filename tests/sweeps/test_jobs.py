"""The jobs of a sweep: the folder of each job, and what remains to be done when the sweep is started again."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY
from tests.experiment.runs import STOPPING_CONV, write_pictures

# One epoch without a report, which would take longer than the jobs.
SHORT = (*TINY, "epochs=1", "sweep.report=false")


def test_a_sweep_creates_a_readable_folder_for_each_combination(run_here, results):
    done = run_here("train", "-m", *SHORT, "conv=standard,weighted_sum", "seed=0,1")
    assert done.code == 0
    runs = results()
    assert len({folder.parent for folder, _ in runs}) == 1
    assert runs[0][0].parent.parent.parts[-2:] == ("outputs", "sweeps")
    assert {(result["conv"], result["seed"]) for _, result in runs} == {
        ("standard", 0), ("standard", 1), ("weighted_sum", 0), ("weighted_sum", 1),
    }  # fmt: skip
    for folder, result in runs:
        assert folder.name == f"conv-{result['conv']}_seed-{result['seed']}"
    assert "4 of 4 jobs finished" in done.out


def test_sweeps_without_a_name_have_different_folders(run_here, results):
    for _ in range(2):
        run_here("train", "-m", *SHORT, "seed=0")
    assert len({folder.parent for folder, _ in results()}) == 2


@pytest.mark.parametrize("arguments", [["sweep=x"], ["-m", "sweep=a/b", "seed=0,1"]])
def test_a_name_without_a_sweep_and_a_name_that_is_a_path_are_refused(run_here, results, arguments):
    done = run_here("train", *arguments)
    assert done.code == 2
    assert done.err.endswith("(sweep)\n")
    assert not results()


def test_the_same_command_repeats_no_finished_job_and_retries_failed_jobs(run_here, results):
    sweep = ("train", "-m", *SHORT, "conv=weighted_sum", "conv.implementation=linear,fft", "sweep=again")
    assert run_here(*sweep).code == 3
    before = {folder.name: result for folder, result in results()}
    done = run_here(*sweep)
    assert done.code == 3
    after = {folder.name: result for folder, result in results()}
    linear, fft = sorted(before, reverse=True)
    assert after[linear] == before[linear]
    assert re.search(r"^skipped, .*finished: outputs/sweeps/again/conv.implementation-linear$", done.out, re.M)
    assert after[fft]["ended_at"] > before[fft]["ended_at"], "the failed job was retried"


def test_failed_jobs_are_not_retried_if_retry_failed_is_false(run_here, results):
    sweep = ("train", "-m", *SHORT, "conv=weighted_sum", "conv.implementation=linear,fft", "sweep=left")
    run_here(*sweep)
    before = results()
    done = run_here(*sweep, "sweep.retry_failed=false")
    assert done.code == 3
    assert re.search(r"^skipped, .*failed: ", done.out, re.M)
    assert results() == before


def test_with_fail_fast_no_job_starts_after_one_has_failed(run_here, results):
    sweep = ("train", "-m", *SHORT, "conv=weighted_sum", "conv.implementation=linear,fft,folded", "sweep=fast")
    done = run_here(*sweep, "sweep.fail_fast=true")
    assert done.code == 3
    assert sorted(result["status"] for _, result in results()) == ["failed", "finished"]
    assert "(sweep.fail_fast)" in done.out
    assert "1 of 3 jobs finished" in done.out
    assert run_here(*sweep).code == 3
    assert sorted(result["status"] for _, result in results()) == ["failed", "finished", "finished"]


def test_a_wider_command_finds_the_jobs_of_a_narrower_one_and_never_mixes_two_jobs(run_here, results):
    assert run_here("train", "-m", *SHORT, "seed=0,1", "sweep=wide").code == 0
    before = dict(results())
    # The names seed-0 and seed-1 belong to other jobs already, because the convolution does not vary here.
    assert run_here("train", "-m", *SHORT, "conv=weighted_sum", "seed=0,1", "sweep=wide").code == 0
    done = run_here("train", "-m", *SHORT, "conv=standard,weighted_sum", "seed=0,1,2", "sweep=wide")
    assert done.out.count("skipped, already finished: ") == 4
    after = dict(results())
    assert len(after) == 6
    assert {folder: after[folder] for folder in before} == before
    assert len({(result["conv"], result["seed"]) for result in after.values()}) == 6


def test_a_job_whose_folder_another_process_has_locked_is_skipped(run_here, tmp_path):
    sweep = ("train", "-m", *SHORT, "seed=0,1", "sweep=shared")
    folder = tmp_path / "outputs" / "sweeps" / "shared" / "seed-0"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_here(*sweep)
    assert re.search(r"^skipped: .*outputs/sweeps/shared/seed-0\b", done.out, re.M)
    assert done.code == 3
    assert run_here(*sweep).code == 0


def test_a_job_resumes_with_data_sets_in_another_folder(run_here, results, monkeypatch, tmp_path):
    (tmp_path / "stopping.py").write_text(STOPPING_CONV)
    monkeypatch.syspath_prepend(tmp_path)
    write_pictures(tmp_path / "here" / "pictures")
    arguments = (*TINY[3:], "data=folder", "data.root=${datasets}/pictures", "data.image_size=16", "batch_size=8")
    arguments = ("-m", *arguments, "conv._target_=stopping.Stopping", "sweep=moved", "sweep.report=false", "seed=0,1")
    run_here("train", *arguments, f"datasets={tmp_path / 'here'}")
    for folder, result in results():
        assert result["epochs_done"] == 1
        (folder / "results.json").write_text(json.dumps(result | {"status": "interrupted"}))
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setenv("CONTINUE", "1")
    assert run_here("train", *arguments, f"datasets={tmp_path / 'there'}").code == 0
    assert [result["status"] for _, result in results()] == ["finished", "finished"]
    assert [len(result["computed"]) for _, result in results()] == [2, 2]


# -- sweeps that are killed -------------------------------------------------------------------------------------------

KILLED_SWEEP = (
    "-m",
    *TINY,
    "engine.watch=false",
    "epochs=6",
    "conv=standard,weighted_sum,dynamic",
    "seed=0,1,2",
    "sweep=killed",
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the sweep in its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "convbench.train", *KILLED_SWEEP],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def outcome(folder: Path) -> dict[str, tuple[object, ...]]:
    """For each job, the results that do not depend on how often it was killed."""
    return {
        path.parent.name: (
            (result := json.loads(path.read_text()))["status"],
            result["epochs_done"],
            result["train"],
            result["val"],
            result["best"],
            result["test"],
        )
        for path in (folder / "outputs" / "sweeps" / "killed").glob("*/results.json")
    }


def table(folder: Path) -> list[list[str]]:
    """The columns of the report's table that do not depend on times or memory."""
    rows = (folder / "outputs" / "sweeps" / "killed" / "report" / "table.csv").read_text().splitlines()
    head = rows[0].split(",")
    kept = [index for index, name in enumerate(head) if not re.match("seconds|images|peak", name)]
    assert len(kept) > 10
    return [[row.split(",")[index] for index in kept] for row in rows]


@pytest.mark.slow
def test_a_sweep_killed_five_times_repeats_no_finished_job_and_gives_the_same_table(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    began = time.monotonic()
    assert start(whole).wait(timeout=240) == 0
    length = time.monotonic() - began
    random = np.random.default_rng()
    finished: dict[Path, float] = {}
    kills = 0
    while kills < 5:
        sweep = start(cut)
        try:
            # The start takes about 3 s. At most a fifth of the remaining duration passes before each of the five kills.
            sweep.wait(timeout=min(length, 3 + random.uniform(0, length / 5)))
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
        kills += 1
        for path in (cut / "outputs" / "sweeps" / "killed").glob("*/results.json"):
            if json.loads(path.read_text())["status"] == "finished":
                finished.setdefault(path, path.stat().st_mtime)
    assert start(cut).wait(timeout=240) == 0
    assert {path: path.stat().st_mtime for path in finished} == finished, "a finished job was run again"
    assert outcome(cut) == outcome(whole)
    assert len(outcome(cut)) == 9
    assert table(cut) == table(whole)
