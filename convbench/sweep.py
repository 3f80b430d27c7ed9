"""What makes a sweep (`-m`) survive a failing job: a Hydra callback, which works with every launcher."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from convbench.cli import SWEEP_FAILED_CODE, find_user_error

log = logging.getLogger("convbench")


class SweepCallback(Callback):
    """Says at once that a job failed, lets the others run, and closes the sweep with a table of what became of each."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget the failures of an earlier sweep in the same folder."""
        _failures(config).unlink(missing_ok=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Runs in the process of the job: a failed one counts as ended, else Hydra would stop before the summary."""
        if config.hydra.mode is not RunMode.MULTIRUN:
            return
        from convbench.engine.device import free_memory  # PyTorch, which `--help` does without

        free_memory()
        if job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # the property of that name would raise it
        reason = str(find_user_error(error) or repr(error))
        log.error("FAILED %s: %s", config.hydra.job.override_dirname, reason)
        # A file, because with other launchers this is another process; and of its own, because a job that was refused
        # a folder leaves the results of an earlier run there.
        with _failures(config).open("a") as file:
            file.write(json.dumps({"job": Path(config.hydra.runtime.output_dir).name, "reason": reason}) + "\n")
        job_return.status = JobStatus.COMPLETED
        job_return.return_value = math.nan

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every run folder of the sweep and exit with 3 if a job failed."""
        folder = Path(config.hydra.sweep.dir)
        results = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/results.json"))}
        outcomes = {name: _outcome(result) for name, result in results.items()}
        failed = {name for name, result in results.items() if result["status"] != "finished"}
        if _failures(config).exists():
            for failure in map(json.loads, _failures(config).read_text().splitlines()):
                outcomes[failure["job"]] = f"failed: {failure['reason']}"
                failed.add(failure["job"])
        if not outcomes:
            return
        log.info("\nsweep %s", folder)
        width = max(map(len, outcomes))
        for name, outcome in sorted(outcomes.items()):
            log.info("%-*s  %s", width, name, outcome)
        log.info("%d of %d jobs finished", len(outcomes) - len(failed), len(outcomes))
        if failed:
            raise SystemExit(SWEEP_FAILED_CODE)


def _failures(config: DictConfig) -> Path:
    """Where the failures of a sweep are noted, a line each."""
    return Path(config.hydra.sweep.dir) / "failures.jsonl"


def _outcome(result: dict[str, Any]) -> str:
    if result["status"] != "finished":
        return f"{result['status']}: {result['error']}"
    scores = {"val": result["val"], "test": result["test"]}
    return "  ".join(f"{split} {100 * score['accuracy']:6.2f} %" for split, score in scores.items() if score)
