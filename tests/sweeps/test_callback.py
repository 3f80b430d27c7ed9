"""Sweeps: readable folders, failures that stop nobody, and the same command again that does what is left."""

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

# Where the report is of no interest; it takes longer than the jobs.
BARE = (*TINY, "epochs=1", "sweep.report=false")


def test_a_sweep_makes_a_readable_folder_for_each_combination(run_here, results):
    done = run_here("train", "-m", *BARE, "conv=standard,weighted_sum", "seed=0,1")
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


def test_a_sweep_says_how_it_goes_after_each_job_and_ends_with_a_report(run_here, tmp_path):
    done = run_here("train", "-m", *TINY, "epochs=1", "conv=standard,weighted_sum", "seed=0,1", "sweep=ablation")
    assert re.findall(r"^sweep ablation: (\d) done, (\d) running, (\d) failed, (\d) left", done.out, re.M) == [
        ("1", "0", "0", "3"), ("2", "0", "0", "2"), ("3", "0", "0", "1"), ("4", "0", "0", "0"),
    ]  # fmt: skip
    assert re.search(r"3 done, .* left, about \d+ s to go$", done.out, re.M)
    report = tmp_path / "outputs" / "sweeps" / "ablation" / "report"
    assert f"report: {report.relative_to(tmp_path)}/index.html" in done.out
    assert {"index.html", "table.md", "table.csv", "curves_epochs.png", "pareto.svg"} <= {
        path.name for path in report.iterdir()
    }
    assert "| standard | 2 |" in (report / "table.md").read_text()


def test_a_failing_job_is_named_at_once_and_the_others_run(run_here, results):
    done = run_here("train", "-m", *BARE, "conv=weighted_sum", "conv.implementation=linear,fft,folded")
    assert done.code == 3
    statuses = {folder.name.removeprefix("conv.implementation-"): result for folder, result in results()}
    assert {name: result["status"] for name, result in statuses.items()} == {
        "linear": "finished", "fft": "failed", "folded": "finished",
    }  # fmt: skip
    assert "weighted_sum has no implementation 'fft'" in statuses["fft"]["error"]
    notice = done.out.index("FAILED conv.implementation-fft: layer conv1: weighted_sum has no implementation 'fft'")
    assert notice < done.out.rindex("epoch    train"), "the notice comes before the next job trains"
    assert re.search(r"^conv.implementation-fft +failed: .*weighted_sum has no implementation 'fft'", done.out, re.M)
    assert "2 of 3 jobs finished" in done.out
    assert "Traceback" not in done.err


# A convolution that raises in its third call, and one that asks for more memory than any machine has.
FAULTY = """
import torch
from torch import nn

class Raising(nn.Conv2d):
    calls = 0

    def forward(self, x):
        Raising.calls += 1
        if self.training and Raising.calls > 30:
            raise RuntimeError("the third wheel came off")
        return super().forward(x)

class Hungry(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + torch.empty(2**50, device=x.device).sum()
"""


def test_a_conv_that_raises_and_one_that_exhausts_memory_are_named_with_reasons(run_module, tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    convs = "conv._target_=torch.nn.Conv2d,faulty.Raising,faulty.Hungry"
    done = run_module("train", "-m", *TINY, convs, "sweep=faulty", PYTHONPATH=str(tmp_path))
    assert done.code == 3
    sweep = tmp_path / "outputs" / "sweeps" / "faulty"
    for name, why in (("Raising", "RuntimeError: the third wheel came off"), ("Hungry", "out of memory: ")):
        (folder,) = sweep.glob(f"*{name}*")
        result = json.loads((folder / "results.json").read_text())
        assert result["status"] == "failed"
        assert why in result["error"]
        assert f"in forward\n    {'raise' if name == 'Raising' else 'return'}" in (folder / "traceback.txt").read_text()
        assert re.search(rf"^FAILED conv\._target_-faulty\.{name}: {why}", done.out, re.M)
        assert re.search(rf"^{re.escape(folder.name)} +failed: {why}", done.out, re.M)
        table = (sweep / "report" / "table.md").read_text()
        assert re.search(rf"^- {re.escape(folder.name)} is not in it: failed, {why}", table, re.M)
    assert "a smaller batch_size needs less" in done.out
    assert "1 of 3 jobs finished" in done.out
    assert "Traceback" not in done.out + done.err


def test_the_same_command_again_runs_nothing_twice_and_retries_what_failed(run_here, results, tmp_path):
    sweep = ("train", "-m", *BARE, "conv=weighted_sum", "conv.implementation=linear,fft", "sweep=again")
    assert run_here(*sweep).code == 3
    before = {folder.name: result for folder, result in results()}
    done = run_here(*sweep)
    assert done.code == 3
    after = {folder.name: result for folder, result in results()}
    linear, fft = sorted(before, reverse=True)
    assert after[linear] == before[linear]
    assert "finished already: outputs/sweeps/again/conv.implementation-linear" in done.out
    assert after[fft]["ended_at"] > before[fft]["ended_at"], "the failed job was tried again"


def test_failed_jobs_can_be_left_as_they_are(run_here, results):
    sweep = ("train", "-m", *BARE, "conv=weighted_sum", "conv.implementation=linear,fft", "sweep=left")
    run_here(*sweep)
    before = results()
    done = run_here(*sweep, "sweep.retry_failed=false")
    assert done.code == 3
    assert "failed already: " in done.out
    assert results() == before


def test_with_fail_fast_no_job_starts_after_one_has_failed(run_here, results):
    sweep = ("train", "-m", *BARE, "conv=weighted_sum", "conv.implementation=linear,fft,folded", "sweep=fast")
    done = run_here(*sweep, "sweep.fail_fast=true")
    assert done.code == 3
    assert sorted(result["status"] for _, result in results()) == ["failed", "finished"]
    assert "not started, for another job has failed (sweep.fail_fast): " in done.out
    assert "1 of 3 jobs finished" in done.out
    assert run_here(*sweep).code == 3
    assert sorted(result["status"] for _, result in results()) == ["failed", "finished", "finished"]


def test_a_wider_command_finds_the_jobs_of_a_narrower_one_and_never_mixes_two(run_here, results):
    assert run_here("train", "-m", *BARE, "seed=0,1", "sweep=wide").code == 0
    before = dict(results())
    # here seed=0 is another job's name, for the convolution does not vary
    assert run_here("train", "-m", *BARE, "conv=weighted_sum", "seed=0,1", "sweep=wide").code == 0
    done = run_here("train", "-m", *BARE, "conv=standard,weighted_sum", "seed=0,1,2", "sweep=wide")
    assert done.out.count("finished already: ") == 4
    after = dict(results())
    assert len(after) == 6
    assert {folder: after[folder] for folder in before} == before
    assert len({(result["conv"], result["seed"]) for result in after.values()}) == 6


def test_a_folder_in_which_somebody_works_is_left_alone(run_here, tmp_path):
    import fcntl

    sweep = ("train", "-m", *BARE, "seed=0,1", "sweep=shared")
    folder = tmp_path / "outputs" / "sweeps" / "shared" / "seed-0"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run_here(*sweep)
    assert "left alone: another process is working in outputs/sweeps/shared/seed-0" in done.out
    assert done.code == 3
    assert run_here(*sweep).code == 0


def test_sweeps_without_a_name_have_folders_of_their_own(run_here, results):
    for _ in range(2):
        run_here("train", "-m", *BARE, "seed=0")
    assert len({folder.parent for folder, _ in results()}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep=x"], "sweep=NAME is for sweeps: give -m as well (sweep)"),
        (["-m", "sweep=a/b", "seed=0,1"], "sweep=a/b is no name of a folder: give one without slashes (sweep)"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(run_here, arguments, said):
    done = run_here("train", *arguments)
    assert done.code == 2
    assert said in done.err


GRID = (
    "-m",
    *TINY,
    "engine.watch=false",
    "epochs=6",
    "conv=standard,weighted_sum,dynamic",
    "seed=0,1,2",
    "sweep=killed",
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the sweep in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "convbench.train", *GRID],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def outcome(folder: Path) -> dict[str, tuple[object, ...]]:
    """For each job what is the same however often it was cut off."""
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
    """The columns of the report's table that a clock has no part in."""
    rows = (folder / "outputs" / "sweeps" / "killed" / "report" / "table.csv").read_text().splitlines()
    head = rows[0].split(",")
    kept = [index for index, name in enumerate(head) if not re.match("seconds|images|peak", name)]
    assert len(kept) > 10
    return [[row.split(",")[index] for index in kept] for row in rows]


@pytest.mark.slow
def test_killed_five_times_at_random_it_finishes_no_job_twice_and_comes_to_the_same_table(run_module, tmp_path):
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
            # a start takes seconds; the moment is anywhere in the first half of what is left, so that five fit
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
