"""The end of a sweep whose launcher stops early: wait for its other jobs, summarise them and write the report.

A launcher raises an exception as soon as one job ends without a result, for example because it was killed. Hydra then
ends without calling the callback of the sweep.
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

# The extra of this package that installs a plugin, by the configuration that the plugin adds to Hydra.
EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/ray": "ray",
    "hydra/sweeper/optuna": "optuna",
}


def missing_extra(error: BaseException) -> str | None:
    """The error message for a plugin of Hydra that is not installed; None for any other error."""
    if not isinstance(error, MissingConfigException):
        return None
    extra = EXTRAS.get(str(error.missing_cfg_file).removesuffix(".yaml"))
    return extra and f"{error.missing_cfg_file} needs a plugin of Hydra: pip install 'convbench[{extra}]'"


def handle_launcher_failure(error: Exception) -> None:
    """Log why the launcher has stopped, wait for the jobs that are still running on Slurm, and close the sweep.

    Args:
        error: the exception that the launcher raised.

    Raises:
        SystemExit: if some jobs of the sweep have not finished; with the exit code of such a sweep.
    """
    sweep = SweepCallback.open
    if sweep is None:
        return
    if _is_on_slurm(sweep) and _slurm_jobs(sweep.folder):
        log.error("a Slurm job ended without a result; waiting for the other jobs")
        _wait_for_slurm(sweep.folder)
    elif find_runs([sweep.folder]).runs:  # otherwise no job has begun, and the command line prints the error
        log.error("the launcher stopped: %s", reason(error))
    sweep.close()


def handle_interruption() -> None:
    """Log how to continue a sweep that the user has interrupted."""
    sweep = SweepCallback.open
    if sweep is None:
        return
    sweep.progress.stop()
    arrays = _slurm_arrays(sweep.folder) if _is_on_slurm(sweep) else []
    if arrays:
        log.info("the jobs remain in Slurm; to cancel them: scancel %s", " ".join(arrays))
    log.info("interrupted; to continue, give the same command with sweep=%s", sweep.folder.name)


def _is_on_slurm(sweep: SweepCallback) -> bool:
    return sweep.launcher.endswith("SlurmLauncher")


def _slurm_jobs(sweep: Path) -> list[str]:
    """The ids of the jobs, such as 12_0 and 12_1, that were submitted to Slurm since the sweep was last started."""
    # Both times come from the file system, whose clock may differ from the clock of this machine.
    started = (sweep / "sweep.json").stat().st_mtime
    files = [path for path in sweep.glob(".submitit/*/*_submitted.pkl") if path.stat().st_mtime >= started]
    return sorted(path.name.removesuffix("_submitted.pkl") for path in files)


def _slurm_arrays(sweep: Path) -> list[str]:
    """The ids of the job arrays, such as 12."""
    return sorted({re.sub("_.*", "", job) for job in _slurm_jobs(sweep)})


def _wait_for_slurm(sweep: Path) -> None:
    from submitit import SlurmJob

    jobs: list[SlurmJob[object]] = [SlurmJob(sweep / ".submitit" / "%j", name) for name in _slurm_jobs(sweep)]
    for job in jobs:
        job.wait()
        if not job.paths.result_pickle.exists():
            stderr = os.path.relpath(job.paths.stderr)
            log.error("Slurm job %s ended in state %s; its error output is in %s", job.job_id, job.state, stderr)
