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

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Runs in the process of the job: a failed one counts as ended, else Hydra would stop before the summary."""
        if config.hydra.mode is not RunMode.MULTIRUN:
            return
        from convbench.engine.device import free_memory  # PyTorch, which `--help` does without

        free_memory()
        if job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value  # the property of that name would raise it
        log.error("FAILED %s: %s", config.hydra.job.override_dirname, find_user_error(error) or repr(error))
        job_return.status = JobStatus.COMPLETED
        job_return.return_value = math.nan

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every run folder of the sweep and exit with 3 if a job failed."""
        folder = Path(config.hydra.sweep.dir)
        results = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/results.json"))}
        if not results:
            return
        log.info("\nsweep %s", folder)
        width = max(map(len, results))
        for name, result in results.items():
            log.info("%-*s  %s", width, name, _outcome(result))
        failed = sum(result["status"] != "finished" for result in results.values())
        log.info("%d of %d jobs finished", len(results) - failed, len(results))
        if failed:
            raise SystemExit(SWEEP_FAILED_CODE)


def _outcome(result: dict[str, Any]) -> str:
    if result["status"] != "finished":
        return f"{result['status']}: {result['error']}"
    scores = {"val": result["val"], "test": result["test"]}
    return "  ".join(f"{split} {100 * score['accuracy']:6.2f} %" for split, score in scores.items() if score)
