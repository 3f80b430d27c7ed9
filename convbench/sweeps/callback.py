"""The Hydra callback of sweeps (`-m`): failed jobs do not end the sweep, and a summary and a report close it.

A callback works with every launcher.
"""

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from convbench.config.naming import config_hash
from convbench.errors import ExitCode, reason
from convbench.files import write_json
from convbench.run_folders.record import RunRecord, find_runs
from convbench.run_folders.run_folder import RunFolder, now
from convbench.sweeps.progress import SweepProgress

log = logging.getLogger("convbench")


class SweepCallback(Callback):
    """Logs failed jobs at once, lets the other jobs run, and closes the sweep with a summary and a report.

    Attributes:
        open: the sweep that this process has started and not yet closed.
    """

    open: "SweepCallback | None" = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the command to `sweep.json` and start the progress display."""
        self.folder = Path(config.hydra.sweep.dir)
        self.has_report = bool(OmegaConf.select(config, "sweep.report"))
        self.jobs = _job_count(config)
        self.launcher = str(config.hydra.launcher._target_)
        content = {
            "command": shlex.join(["python", "-m", "convbench.train", *sys.argv[1:]]),
            "began_at": now(),
            "jobs": self.jobs,
        }
        write_json(self.folder / "sweep.json", content)
        self.progress = SweepProgress(self.folder, self.jobs)
        # Jobs of the other launchers do not print to this terminal, so that a thread has to show the progress.
        if not self.launcher.endswith("BasicLauncher"):
            self.progress.start()
        SweepCallback.open = self

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Log the failure of a job and report the job to Hydra as completed, which would otherwise end the sweep.

        Hydra calls this method in the process of the job.
        """
        if config.hydra.mode is not RunMode.MULTIRUN:
            return
        if "torch" in sys.modules:  # a skipped job has not imported it
            from convbench.engine.device import free_memory

            free_memory()
        if job_return.status is JobStatus.FAILED:
            error = job_return._return_value  # the property `return_value` would raise the error
            log.error("FAILED %s: %s", config.hydra.job.override_dirname, reason(error))
            _record_failure(RunFolder(config.hydra.runtime.output_dir), config, error)
            # The sweeper of Optuna has to know that a trial failed, and counts the failures itself.
            if "optuna" not in str(config.hydra.sweeper._target_):
                job_return.status = JobStatus.COMPLETED
                job_return.return_value = None
        if SweepCallback.open is not None:
            # A job that ran in this process has directed the log to its own file: direct it to the terminal again.
            configure_log(config.hydra.hydra_logging, config.hydra.verbose)
            if not self.progress.is_watching:
                log.info("%s", self.progress.line())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Close the sweep; see `close`."""
        self.close()

    def close(self) -> None:
        """Log the outcome of each job and write the report.

        Raises:
            SystemExit: if some jobs have not finished; with exit code 3.
        """
        SweepCallback.open = None
        self.progress.stop()
        outcomes = {run.folder.name: _outcome(run) for run in find_runs([self.folder]).runs}
        if not outcomes:
            return
        log.info("\nsweep %s", self.folder)
        width = max(map(len, outcomes))
        for name, (_, text) in sorted(outcomes.items()):
            log.info("%-*s  %s", width, name, text)
        finished = sum(is_finished for is_finished, _ in outcomes.values())
        jobs = max(len(outcomes), self.jobs or 0)
        log.info("%d of %d jobs finished", finished, jobs)
        if self.has_report and finished:
            self._report()
        if finished < jobs:
            log.info("to run the other jobs, give the same command with sweep=%s", self.folder.name)
            raise SystemExit(ExitCode.SWEEP_FAILED)

    def _report(self) -> None:
        """Write the report; an error in it is only logged, so that the sweep keeps its summary and exit code."""
        from convbench.report.settings import default_settings
        from convbench.report.writing import write_report

        try:
            log.info("%s", write_report([self.folder], self.folder / "report", default_settings()))
        except Exception as error:
            log.exception("the report could not be written: %s", reason(error))


def _record_failure(folder: RunFolder, config: DictConfig, error: BaseException) -> None:
    """Record the failure of a job whose configuration was refused, so that the job wrote no results itself.

    The same command, given again, finds the folder by the hash of the configuration.
    """
    if not folder.results_path.exists():
        folder.update_results(
            status="failed", error=reason(error), config_hash=config_hash(config), best=None, ended_at=now()
        )


def _job_count(config: DictConfig) -> int | None:
    """The number of jobs of the sweep, or of trials of a search."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    if trials is not None:
        return int(trials)
    words = list(config.hydra.overrides.task)
    words += [f"{key}={value}" for key, value in (OmegaConf.select(config, "hydra.sweeper.params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides(words)
    last = {override.get_key_element(): override for override in parsed}  # Hydra uses the last override of a key
    count = 1
    for override in last.values():
        if override.is_sweep_override():
            count *= len(list(override.sweep_string_iterator()))
    return count


def _outcome(run: RunRecord) -> tuple[bool, str]:
    """Whether a job has finished, and its scores or the reason why it has not."""
    if run.status != "finished":
        return False, ": ".join(filter(None, [run.status, run.error]))
    scores = {split: run.score(split, "accuracy") for split in ("val", "test")}
    return True, "  ".join(f"{split} {100 * score:6.2f} %" for split, score in scores.items() if score is not None)
