"""Sweeps with the real launchers and with a search for hyper-parameters, started from the command line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from convbench.config.options import conf_folder
from convbench.sweeps.gpu_locks import cores
from convbench.sweeps.launcher_failures import EXTRAS
from tests.conftest import TINY, Outcome

LAUNCHERS = sorted(path.stem for path in (conf_folder() / "launcher").glob("*.yaml"))
PLUGINS = sorted((conf_folder() / "launcher").glob("*.yaml")) + sorted((conf_folder() / "search").glob("*.yaml"))
LONG = 60  # epochs, so that a job lasts long enough to be stopped


@dataclass
class Sweep:
    """A sweep in a folder of its own, which can be started several times."""

    place: Path
    words: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.place / "outputs" / "sweeps" / "trial"

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "convbench.train", "-m", *TINY, "sweep=trial", *self.words]
        return subprocess.Popen(
            command, cwd=self.place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
        )

    def run(self) -> Outcome:
        return end(self.start())

    def results(self, job: str) -> dict[str, Any]:
        try:
            return json.loads((self.folder / job / "results.json").read_text())
        except FileNotFoundError:
            return {"status": "not begun", "epochs_done": 0}

    def rows(self, job: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (self.folder / job / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]  # without times


def end(process: "subprocess.Popen[str]") -> Outcome:
    out, err = process.communicate(timeout=240)
    return Outcome(process.returncode, out, err)


def wait_for(condition: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    """Wait until a condition holds while the sweep runs; returns its value."""
    began = time.monotonic()
    while not (value := condition()):
        if process.poll() is not None or time.monotonic() - began > 180:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"the condition never held; the output of the sweep: {out}\n{err}")
        time.sleep(0.05)
    return value


def has_checkpoint(sweep: Sweep, job: str) -> bool:
    """Whether a job is running and has a checkpoint from which it can be resumed."""
    results = sweep.results(job)
    return results["status"] == "running" and results["epochs_done"] >= 2


def lock_holder(folder: Path) -> int | None:
    """The id of the process that works in a run folder."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == folder / ".lock":
                return int(link.parts[2])
        except OSError:
            continue
    return None


# -- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["launcher", "search"])
def test_a_launcher_or_a_search_without_a_sweep_is_refused(run_here, results, group):
    done = run_here("train", f"{group}=ray")
    assert done.code == 2
    assert "-m" in done.err
    assert done.err.endswith(f"({group})\n")
    assert not results()


def test_an_interrupted_sweep_prints_how_to_continue_it(tmp_path):
    sweep = Sweep(tmp_path, ("seed=0,1", f"epochs={LONG}", "sweep.report=false"))
    process = sweep.start()
    wait_for(lambda: has_checkpoint(sweep, "seed-0"), process)
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert (done.code, done.err) == (130, "")
    assert "sweep=trial" in done.out.splitlines()[-1]
    assert sweep.results("seed-0")["status"] == "interrupted"
    assert sweep.results("seed-1")["status"] == "not begun"


@pytest.mark.parametrize("words", [("launcher=slurm",), ("search=learning_rate",)])
def test_the_message_on_a_missing_plugin_names_the_extra_to_install(tmp_path, words):
    without = "import hydra_plugins, runpy; hydra_plugins.__path__ = []\n"
    code = f"{without}runpy.run_module('convbench.train', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "-m", "seed=0,1", *words], cwd=tmp_path, capture_output=True, text=True
    )
    extra = {"launcher=slurm": "slurm", "search=learning_rate": "optuna"}[words[0]]
    assert done.returncode == 2
    assert re.fullmatch(rf"error: hydra/\w+/\w+ .*pip install 'convbench\[{extra}\]'\n", done.stderr)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_every_launcher_and_search_has_an_extra_that_installs_its_plugin(path):
    override = next(entry for entry in OmegaConf.load(path).defaults if "override" in str(entry))
    ((group, option),) = override.items()
    extra = EXTRAS[f"{group.removeprefix('override /')}/{option}"]
    project = tomllib.loads((conf_folder().parent / "pyproject.toml").read_text())["project"]
    assert any(package.startswith("hydra-") for package in project["optional-dependencies"][extra])


# -- Optuna -------------------------------------------------------------------------------------------------------


def test_a_search_survives_a_failed_trial_finds_the_best_one_and_repeats_no_trial(run_here, results):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    pytest.importorskip("optuna")
    search = (
        "-m", *TINY, "epochs=1", "sweep=search", "sweep.report=false", "search=learning_rate",
        "hydra.sweeper.n_trials=3", "optimizer.weight_decay=interval(-0.006,0.004)",
    )  # fmt: skip
    done = run_here("train", *search)
    assert done.code == 3
    runs = results()
    statuses = [result["status"] for _, result in runs]
    assert (statuses.count("finished"), statuses.count("failed")) == (2, 1)
    assert re.search(r"^FAILED optimizer.lr-\S+: optimizer.weight_decay=-", done.out, re.MULTILINE)
    best = OmegaConf.load(runs[0][0].parent / "optimization_results.yaml")
    finished = [(result["best"]["val"]["accuracy"], folder.name) for folder, result in runs if result["best"]]
    assert best.best_value == max(finished)[0]
    assert any(f"optimizer.lr-{best.best_params['optimizer.lr']}" in name for _, name in finished)
    again = run_here("train", *search)
    assert again.out.count("skipped, already finished: ") == 2
    assert [folder for folder, _ in results()] == [folder for folder, _ in runs], "equal seeds propose equal trials"


# -- joblib -------------------------------------------------------------------------------------------------------


@pytest.fixture
def joblib() -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")


@pytest.mark.cluster
@pytest.mark.usefixtures("joblib")
def test_joblib_runs_two_of_four_jobs_at_a_time_and_divides_the_cores(tmp_path):
    sweep = Sweep(tmp_path, ("seed=0,1,2,3", "launcher=joblib", "hydra.launcher.n_jobs=2", "sweep.report=false"))
    done = sweep.run()
    assert (done.code, done.err) == (0, "")
    assert "4 of 4 jobs finished" in done.out
    assert "epoch" not in done.out, "jobs write to their own files"
    runs = [sweep.results(f"seed-{seed}") for seed in range(4)]
    assert {run["status"] for run in runs} == {"finished"}
    events = sorted([(run["began_at"], 1) for run in runs] + [(run["ended_at"], -1) for run in runs])
    running = [sum(change for _, change in events[: index + 1]) for index in range(len(events))]
    assert max(running) == 2
    for seed in range(4):
        assert OmegaConf.load(sweep.folder / f"seed-{seed}" / "config.yaml").engine.threads == max(cores() // 2, 1)
        assert "epoch" in (sweep.folder / f"seed-{seed}" / "train.log").read_text()


@pytest.mark.cluster
@pytest.mark.usefixtures("joblib")
def test_a_killed_worker_of_joblib_ends_the_sweep_with_a_summary_and_the_same_command_continues(tmp_path):
    sweep = Sweep(tmp_path, (f"epochs=1,{LONG}", "launcher=joblib", "hydra.launcher.n_jobs=2", "sweep.report=false"))
    process = sweep.start()
    short, long = "epochs-1", f"epochs-{LONG}"
    wait_for(lambda: sweep.results(short)["status"] == "finished" and has_checkpoint(sweep, long), process)
    worker = lock_holder(sweep.folder / long)
    assert worker not in (None, process.pid)
    os.kill(worker, signal.SIGKILL)
    done = end(process)
    assert done.code == 3
    assert "TerminatedWorkerError" in done.out
    assert re.search(rf"^{long} +killed: ", done.out, re.MULTILINE)
    assert "1 of 2 jobs finished" in done.out
    assert "Traceback" not in done.out + done.err
    before = sweep.results(short)
    again = sweep.run()
    assert again.code == 0
    assert "2 of 2 jobs finished" in again.out
    assert sweep.results(short) == before, "a finished job is not run again"
    assert "; resumed after epoch" in (sweep.folder / long / "train.log").read_text()


# -- Ray ----------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_ray_runs_the_jobs_of_a_sweep(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    pytest.importorskip("ray")
    one_core_each = ("launcher=ray", "hydra.launcher.ray.remote.num_cpus=1")
    sweep = Sweep(tmp_path, ("seed=0,1", *one_core_each, "sweep.report=false"))
    done = sweep.run()
    assert done.code == 0, done
    assert "2 of 2 jobs finished" in done.out
    assert "epoch" not in done.out
    for seed in (0, 1):
        assert sweep.results(f"seed-{seed}")["status"] == "finished"
        assert OmegaConf.load(sweep.folder / f"seed-{seed}" / "config.yaml").engine.threads == 1


# -- Slurm --------------------------------------------------------------------------------------------------------


@dataclass
class Disturbed:
    """The outcome of a sweep on Slurm in which one job reached its time limit and another one was killed."""

    sweep: Sweep
    first: Outcome
    after_first: dict[str, dict[str, Any]]
    array: str
    second: Outcome


SLURM_JOBS = [f"conv-{conv}_seed-{seed}" for conv in ("standard", "weighted_sum") for seed in (0, 1)]
REQUEUED, KILLED, *UNDISTURBED = SLURM_JOBS


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """One sweep for all tests of Slurm, because it takes a minute or two."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if not shutil.which("sinfo") or slurm("sinfo", "--noheader", check=False).returncode:
        pytest.skip("Slurm is not available: sinfo fails")
    sweep = Sweep(
        tmp_path_factory.mktemp("slurm"),
        (
            "conv=standard,weighted_sum", "seed=0,1", f"epochs={LONG}",
            "launcher=slurm", "hydra.launcher.timeout_min=5", "hydra.launcher.cpus_per_task=1",
        ),
    )  # fmt: skip
    process = sweep.start()
    try:
        wait_for(lambda: has_checkpoint(sweep, REQUEUED), process)
        array = slurm_array(sweep)
        # Slurm sends this signal signal_delay_s before the time limit; scancel would also send it to the requeued job.
        os.kill(wait_for(lambda: lock_holder(sweep.folder / REQUEUED), process), signal.SIGUSR2)
        wait_for(lambda: has_checkpoint(sweep, KILLED), process)
        os.kill(wait_for(lambda: lock_holder(sweep.folder / KILLED), process), signal.SIGKILL)
        wait_for(lambda: state(f"{array}_0") == "PENDING", process)
        slurm("scontrol", "update", f"JobId={array}_0", "StartTime=now")  # otherwise Slurm waits two minutes
        first = end(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
            slurm("scancel", "--user", str(os.getuid()), "--name", "train", check=False)
    after_first = {job: sweep.results(job) for job in SLURM_JOBS}
    return Disturbed(sweep, first, after_first, array, sweep.run())


def slurm(*command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=30)


def slurm_array(sweep: Sweep) -> str:
    return next(path.name for path in (sweep.folder / ".submitit").iterdir() if path.name.isdecimal())


def state(job: str) -> str:
    found = re.search(r"JobState=(\w+)", slurm("scontrol", "show", "job", job, check=False).stdout)
    return found[1] if found else ""


@pytest.mark.cluster
def test_a_sweep_on_slurm_is_one_job_array_whose_jobs_have_the_requested_threads(disturbed):
    folder = disturbed.sweep.folder / ".submitit"
    assert "#SBATCH --array=0-3%4" in (folder / disturbed.array / f"{disturbed.array}_submission.sh").read_text()
    for job in SLURM_JOBS:
        assert OmegaConf.load(disturbed.sweep.folder / job / "config.yaml").engine.threads == 1


@pytest.mark.cluster
def test_a_job_that_slurm_requeues_resumes_and_reaches_the_losses_of_an_undisturbed_run(disturbed, run_here, tmp_path):
    assert disturbed.after_first[REQUEUED]["status"] == "finished"
    log = (disturbed.sweep.folder / REQUEUED / "train.log").read_text()
    assert log.index("stopping after this step") < log.index("; resumed after epoch")
    assert log.count("Requeued job") == 1
    words = (
        "conv=standard",
        "seed=0",
        f"epochs={LONG}",
        "engine.threads=1",
        f"hydra.run.dir={tmp_path / 'undisturbed'}",
    )
    assert run_here("train", *TINY, *words).code == 0
    undisturbed = Sweep(tmp_path, ())
    assert disturbed.sweep.rows(REQUEUED) == undisturbed.rows(str(tmp_path / "undisturbed"))


@pytest.mark.cluster
def test_a_killed_job_on_slurm_is_reported_and_the_others_finish(disturbed):
    first = disturbed.first
    assert first.code == 3
    assert re.search(rf"\b{disturbed.array}_1\b.* FAILED\b", first.out), first.out
    assert re.search(rf"^{re.escape(KILLED)} +killed: ", first.out, re.MULTILINE)
    assert {disturbed.after_first[job]["status"] for job in UNDISTURBED} == {"finished"}
    assert "3 of 4 jobs finished" in first.out
    assert "outputs/sweeps/trial/report" in first.out
    assert "Traceback" not in first.out + first.err


@pytest.mark.cluster
def test_the_same_command_finishes_the_remaining_slurm_job_and_no_other(disturbed):
    assert disturbed.second.code == 0, disturbed.second
    assert "4 of 4 jobs finished" in disturbed.second.out
    assert re.search(r"^standard +2 ", disturbed.second.out, re.MULTILINE), "the report has two seeds"
    for job in SLURM_JOBS:
        now = disturbed.sweep.results(job)
        assert now["status"] == "finished"
        assert job == KILLED or now == disturbed.after_first[job]
    assert "; resumed after epoch" in (disturbed.sweep.folder / KILLED / "train.log").read_text()
