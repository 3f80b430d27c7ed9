"""What makes a sweep (`-m`) survive a failing job: a Hydra callback, which works with every launcher."""

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
from convbench.run_folders.folder import RunFolder, now
from convbench.run_folders.record import RunRecord, find_runs
from convbench.sweeps.progress import SweepProgress

log = logging.getLogger("convbench")


class SweepCallback(Callback):
    """Says at once that a job failed, lets the others run, and closes the sweep with a report on all of them.

    Attributes:
        open: the sweep that this process has started and not yet closed.
    """

    open: "SweepCallback | None" = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the command in `sweep.json` and begin to say how it goes."""
        self.folder = Path(config.hydra.sweep.dir)
        self.has_report = bool(OmegaConf.select(config, "sweep.report"))
        self.jobs = _count(config)
        self.launcher = str(config.hydra.launcher._target_)
        said = {
            "command": shlex.join(["python", "-m", "convbench.train", *sys.argv[1:]]),
            "began_at": now(),
            "jobs": self.jobs,
        }
        write_json(self.folder / "sweep.json", said)
        self.progress = SweepProgress(self.folder, self.jobs)
        # Elsewhere jobs say nothing here: the progress is all that a person sees.
        if not self.launcher.endswith("BasicLauncher"):
            self.progress.start()
        SweepCallback.open = self

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Runs in the process of the job: a failed one counts as ended, else Hydra would stop before the summary."""
        if config.hydra.mode is not RunMode.MULTIRUN:
            return
        if "torch" in sys.modules:  # a job with nothing to do has not loaded it
            from convbench.engine.device import free_memory

            free_memory()
        if job_return.status is JobStatus.FAILED:
            error = job_return._return_value  # the property of that name would raise it
            log.error("FAILED %s: %s", config.hydra.job.override_dirname, reason(error))
            _note_failure(RunFolder(config.hydra.runtime.output_dir), config, error)
            # A search has to know that it learned nothing; it counts failures by itself.
            if "optuna" not in str(config.hydra.sweeper._target_):
                job_return.status = JobStatus.COMPLETED
                job_return.return_value = None
        if SweepCallback.open is not None:
            # joblib with one job at a time runs it in this process, whose words would go on into the job's file alone.
            configure_log(config.hydra.hydra_logging, config.hydra.verbose)
            if not self.progress.is_watching:
                log.info("%s", self.progress.line())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Report on every run folder of the sweep and exit with 3 if a job failed."""
        self.close()

    def close(self) -> None:
        """Say what became of each job, compare the runs, and exit with 3 unless all have finished."""
        SweepCallback.open = None
        self.progress.stop()
        outcomes = {run.folder.name: _outcome(run) for run in find_runs([self.folder]).runs}
        if not outcomes:
            return
        log.info("\nsweep %s", self.folder)
        width = max(map(len, outcomes))
        for name, (_, said) in sorted(outcomes.items()):
            log.info("%-*s  %s", width, name, said)
        finished = sum(is_finished for is_finished, _ in outcomes.values())
        jobs = max(len(outcomes), self.jobs or 0)
        log.info("%d of %d jobs finished", finished, jobs)
        if self.has_report and finished:
            self._report()
        if finished < jobs:
            log.info("the same command with sweep=%s goes on with the others", self.folder.name)
            raise SystemExit(ExitCode.SWEEP_FAILED)

    def _report(self) -> None:
        """A report that cannot be made is no reason to lose what is said of the jobs."""
        from convbench.report.settings import default_settings
        from convbench.report.writing import write_report

        try:
            log.info("%s", write_report([self.folder], self.folder / "report", default_settings()))
        except Exception as error:
            log.exception("no report: %s", reason(error))


def _note_failure(folder: RunFolder, config: DictConfig, error: BaseException) -> None:
    """Write down the failure of a job that was refused before it could do so itself.

    The hash of its configuration is what the same command, given again, finds the folder by.
    """
    if not folder.results_path.exists():
        folder.update_results(
            status="failed", error=reason(error), config_hash=config_hash(config), best=None, ended_at=now()
        )


def _count(config: DictConfig) -> int | None:
    """How many jobs there will be, where that is known."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    if trials is not None:
        return int(trials)
    words = list(config.hydra.overrides.task)
    words += [f"{key}={value}" for key, value in (OmegaConf.select(config, "hydra.sweeper.params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides(words)
    last = {override.get_key_element(): override for override in parsed}  # given twice, the last counts
    count = 1
    for override in last.values():
        if override.is_sweep_override():
            count *= len(list(override.sweep_string_iterator()))
    return count


def _outcome(run: RunRecord) -> tuple[bool, str]:
    """Whether a job has finished, and a text for a person."""
    if run.status != "finished":
        return False, ": ".join(filter(None, [run.status, run.error]))
    scores = {split: run.score(split, "accuracy") for split in ("val", "test")}
    return True, "  ".join(f"{split} {100 * score:6.2f} %" for split, score in scores.items() if score is not None)
