"""Which folder a job of a sweep has, and what is left to do there.

A job is known by the hash of its configuration: the same command, given again, finds its jobs again, and so does a
command that only has more of them. Imports no PyTorch: a job with nothing to do ends at once.
"""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from convbench.config.naming import config_hash
from convbench.files import read_text
from convbench.run_folders.folder import RunFolder
from convbench.run_folders.record import find_runs, read_results

_NAME_DIGITS = 6  # of the hash, in the name of a folder whose plain name is another job's


def job_folder(sweep: str, name: str, config: DictConfig) -> str:
    """The name of the folder of a job: the one that it has already, else a new one.

    Args:
        sweep: folder of the sweep.
        name: what the job would be called, `conv-standard_seed-0`.
        config: of the job.
    """
    digest = config_hash(config)
    jobs = {run.folder.name: run.config_hash for run in find_runs([Path(sweep)]).runs}
    if jobs.get(name) == digest:
        return name
    known = next((folder for folder, other in jobs.items() if other == digest), None)
    if known is not None:
        return known
    # An earlier command of this sweep may have left out of its names what varies now.
    return f"{name}-{digest[:_NAME_DIGITS]}" if name in jobs else name


def has_failed_job(sweep: Path) -> bool:
    """Whether a job has failed since the sweep was last started."""
    began = read_sweep(sweep).get("began_at", "")
    return any(run.status == "failed" and run.ended_at >= began for run in find_runs([sweep]).runs)


def read_sweep(sweep: Path) -> dict[str, Any]:
    """What `sweep.json` says: the command, when it was given, how many jobs it has (None: nobody knows)."""
    try:
        said = json.loads(read_text(sweep / "sweep.json"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def next_action(folder: RunFolder, retry_failed: bool) -> str:
    """`start` the job of a folder, let it `go on` from its checkpoint, or `leave` it as it is."""
    try:
        status = read_results(folder.path)["status"]
    except (OSError, ValueError):
        return "start"
    if status == "finished" or (status == "failed" and not retry_failed):
        return "leave"
    # What a failed run leaves is what made it fail, such as weights that are no numbers.
    return "go on" if status != "failed" and folder.last_checkpoint.exists() else "start"
