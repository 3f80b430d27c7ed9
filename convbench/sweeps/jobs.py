"""Which folder a job of a sweep has, and what is left to do there.

A job is known by the hash of its configuration: the same command, given again, finds its jobs again, and so does a
command that only has more of them. Imports no PyTorch: a job with nothing to do ends at once.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from convbench.config import config_hash
from convbench.logs.files import RunFolder
from convbench.text import read_text

_NAME_DIGITS = 6  # of the hash, in the name of a folder whose plain name is another job's


def results_of(sweep: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The jobs that a sweep has begun, by name: their folders and what came out so far; unreadable ones left out."""
    for path in sorted(sweep.glob("*/results.json")):
        try:
            yield path.parent, json.loads(read_text(path))
        except (OSError, ValueError):
            continue


def job_folder(sweep: str, name: str, config: DictConfig) -> str:
    """The name of the folder of a job: the one that it has already, else a new one.

    Args:
        sweep: folder of the sweep.
        name: what the job would be called, `conv=standard,seed=0`.
        config: of the job.
    """
    digest = config_hash(config)
    jobs = {folder.name: results.get("config_hash") for folder, results in results_of(Path(sweep))}
    if jobs.get(name) == digest:
        return name
    known = next((folder for folder, other in jobs.items() if other == digest), None)
    if known is not None:
        return known
    # An earlier command of this sweep may have left out of its names what varies now.
    return f"{name}-{digest[:_NAME_DIGITS]}" if name in jobs else name


def is_called_off(sweep: Path) -> bool:
    """Whether a job has failed since the sweep was last started."""
    began = read_sweep(sweep).get("began_at", "")
    return any(results["status"] == "failed" and results["ended_at"] >= began for _, results in results_of(sweep))


def read_sweep(sweep: Path) -> dict[str, Any]:
    """What `sweep.json` says: the command, when it was given, how many jobs it has (None: nobody knows)."""
    try:
        said = json.loads(read_text(sweep / "sweep.json"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def what_to_do(folder: RunFolder, retry_failed: bool) -> str:
    """`start` the job of a folder, let it `go on` from its checkpoint, or `leave` it as it is."""
    if not folder.results_path.exists():
        return "start"
    try:
        status = json.loads(read_text(folder.results_path))["status"]
    except (ValueError, KeyError):
        return "start"
    if status == "finished" or (status == "failed" and not retry_failed):
        return "leave"
    # What a failed run leaves is what made it fail, such as weights that are no numbers.
    return "go on" if status != "failed" and folder.last_checkpoint.exists() else "start"
