"""The jobs of a sweep: the folder of each job, what remains to be done for it, and its run.

A job is identified by the hash of its configuration. The same command, given again, therefore finds the folders of its
jobs, and so does a command that adds further jobs. This module does not import PyTorch, so that a job for which nothing
remains to be done ends at once.
"""

import json
import logging
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from convbench.config.naming import config_hash
from convbench.config.relocation import relocate
from convbench.experiment.lifecycle import execute_run, start_run
from convbench.files import read_text
from convbench.run_folders.locking import InUseError
from convbench.run_folders.record import find_runs, read_results
from convbench.run_folders.run_folder import RunFolder
from convbench.sweeps.gpu_locks import acquire_gpu

log = logging.getLogger("convbench")

_SUFFIX_DIGITS = 6  # of the hash, appended to a folder name that another job has already


def job_folder(sweep: str, name: str, config: DictConfig) -> str:
    """The name of the folder of a job: the existing folder with its configuration, or a new one.

    Args:
        sweep: the folder of the sweep.
        name: the name that a new folder should have, such as `conv-standard_seed-0`.
        config: the configuration of the job.
    """
    digest = config_hash(config)
    jobs = {run.folder.name: run.config_hash for run in find_runs([Path(sweep)]).runs}
    if jobs.get(name) == digest:
        return name
    existing = next((folder for folder, other in jobs.items() if other == digest), None)
    if existing is not None:
        return existing
    # Names contain only the keys that vary: an earlier command of this sweep may have used the same name for a job
    # that differs in a key which did not vary then.
    return f"{name}-{digest[:_SUFFIX_DIGITS]}" if name in jobs else name


def has_failed_job(sweep: Path) -> bool:
    """Whether a job has failed since the sweep was last started."""
    began = read_sweep(sweep).get("began_at", "")
    return any(run.status == "failed" and run.ended_at >= began for run in find_runs([sweep]).runs)


def read_sweep(sweep: Path) -> dict[str, Any]:
    """The content of `sweep.json`: the command, its start time, and the number of jobs (None if it is not known).

    Empty if the file cannot be read.
    """
    try:
        content = json.loads(read_text(sweep / "sweep.json"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def next_action(folder: RunFolder, retry_failed: bool) -> Literal["start", "resume", "skip"]:
    """What remains to be done for the job in a folder: start it, resume it from its checkpoint, or skip it."""
    try:
        status = read_results(folder.path)["status"]
    except (OSError, ValueError):
        return "start"
    if status == "finished" or (status == "failed" and not retry_failed):
        return "skip"
    # A failed job starts anew, because its checkpoint may contain the cause of the failure, such as NaN weights.
    return "resume" if status != "failed" and folder.last_checkpoint.exists() else "start"


def run_job(config: DictConfig, folder: RunFolder) -> float | None:
    """Do what remains to be done for a job of a sweep.

    Args:
        config: the configuration of the job.
        folder: the folder of the job.

    Returns:
        The best validation accuracy in [0, 1]; None if there is none, or if another process is working in the folder.

    Raises:
        KeyboardInterrupt: if a signal asked to stop, also if the job has finished nevertheless: the sweep has to end.
    """
    try:
        with folder.lock():
            return _run_locked_job(config, folder)
    except InUseError as error:
        log.info("skipped: %s", error)
        return None


def _run_locked_job(config: DictConfig, folder: RunFolder) -> float | None:
    action = next_action(folder, config.sweep.retry_failed)
    if action != "start":
        folder = RunFolder.open(folder.path, "sweep")
    if action == "skip":
        log.info("skipped, already %s: %s", folder.results["status"], folder.path)
        return folder.record.best_accuracy
    if config.sweep.fail_fast and has_failed_job(folder.path.parent):
        log.info("not started, because another job has failed (sweep.fail_fast): %s", folder.path)
        return None
    if action == "resume":
        folder.update_results(status="running", error=None)
        recorded = folder.read_config()
        relocate(recorded, config.data.get("root"), config.datasets)
        config = recorded
    else:
        folder.clear()
        start_run(config, folder)
    is_stop_requested = execute_run(config, folder, lambda: _select_gpu(config))
    if is_stop_requested:
        raise KeyboardInterrupt
    return folder.record.best_accuracy


def _select_gpu(config: DictConfig) -> None:
    """Select a GPU for a job of joblib, whose launcher does not assign GPUs; those of Slurm and Ray do."""
    launcher = HydraConfig.get().launcher
    if launcher._target_.endswith("JoblibLauncher") and config.engine.device in ("auto", "cuda"):
        acquire_gpu(launcher.n_jobs)
