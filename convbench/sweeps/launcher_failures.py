"""What is left to do when a launcher gives up on a sweep: its other jobs, its report, and a word to the person.

Launchers raise as soon as one job has ended without a result, as one does that was killed; Hydra then ends without
calling the sweep's callback.
"""

import logging
import os
import re
from pathlib import Path

from hydra.errors import MissingConfigException

from convbench.errors import reason
from convbench.run_folders.record import find_runs
from convbench.sweeps.callback import SweepCallback

log = logging.getLogger("convbench")

# The extras of this package, by the name of what its plugin adds to Hydra.
EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/ray": "ray",
    "hydra/sweeper/optuna": "optuna",
}


def missing_extra(error: BaseException) -> str | None:
    """Which extra to install, if a config asks for a plugin that is not there; None for any other error."""
    if not isinstance(error, MissingConfigException):
        return None
    extra = EXTRAS.get(str(error.missing_cfg_file).removesuffix(".yaml"))
    return extra and f"{error.missing_cfg_file} comes with a plugin of Hydra: pip install 'convbench[{extra}]'"


def handle_launcher_failure(error: Exception) -> None:
    """Say why the launcher has stopped, wait for the jobs that run nevertheless, and close the sweep.

    Args:
        error: of the launcher.

    Raises:
        SystemExit: if the sweep had begun; with the exit code of a sweep that has failed jobs.
    """
    sweep = SweepCallback.open
    if sweep is None:
        return
    if _is_on_slurm(sweep) and _slurm_jobs(sweep.folder):
        log.error("a job has left Slurm without a result; waiting for the others")
        _wait_for_slurm(sweep.folder)
    elif find_runs([sweep.folder]).runs:  # else nothing has begun, and the command line says why
        log.error("the launcher stopped: %s", reason(error))
    sweep.close()


def handle_interruption() -> None:
    """Say how to go on with a sweep that a person has stopped."""
    sweep = SweepCallback.open
    if sweep is None:
        return
    sweep.progress.stop()
    waiting = _slurm_arrays(sweep.folder) if _is_on_slurm(sweep) else []
    if waiting:
        log.info("the jobs stay with Slurm; to end them: scancel %s", " ".join(waiting))
    log.info("interrupted; the same command with sweep=%s goes on", sweep.folder.name)


def _is_on_slurm(sweep: SweepCallback) -> bool:
    return sweep.launcher.endswith("SlurmLauncher")


def _slurm_jobs(sweep: Path) -> list[str]:
    """The jobs, such as 12_0 and 12_1, that were handed to Slurm since the sweep was last started."""
    started = (sweep / "sweep.json").stat().st_mtime  # by the clock of the file system, as the files of the jobs
    files = [path for path in sweep.glob(".submitit/*/*_submitted.pkl") if path.stat().st_mtime >= started]
    return sorted(path.name.removesuffix("_submitted.pkl") for path in files)


def _slurm_arrays(sweep: Path) -> list[str]:
    return sorted({re.sub("_.*", "", job) for job in _slurm_jobs(sweep)})


def _wait_for_slurm(sweep: Path) -> None:
    from submitit import SlurmJob

    jobs: list[SlurmJob[object]] = [SlurmJob(sweep / ".submitit" / "%j", name) for name in _slurm_jobs(sweep)]
    for job in jobs:
        job.wait()
        if not job.paths.result_pickle.exists():
            log.error(
                "Slurm job %s: %s; what it said last: %s", job.job_id, job.state, os.path.relpath(job.paths.stderr)
            )
