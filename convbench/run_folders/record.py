"""Reading of run folders: the names of their files, a typed record of a run, and the search for runs."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from convbench.config.schema import near
from convbench.errors import UserError
from convbench.files import read_text
from convbench.run_folders.locking import is_locked

# The files of a run folder.
RESULTS = "results.json"
CONFIG = "config.yaml"
DATA = "data.json"
METRICS = "metrics.jsonl"
ROUTING = "routing.jsonl"
LOCK = ".lock"

# Keys that every run has as soon as it has begun.
_COMMON_KEYS = ("status", "model", "conv", "data", "augment", "optimizer", "schedule")
_MAX_RUNS_FOR_KEYS = 100  # the number of runs whose keys are suggested for a mistyped key
_ABSENT = object()
# Folders in or beside run folders that contain no runs.
_SKIPPED_FOLDERS = {"checkpoints", "evaluation", "report", ".submitit", ".git"}
# The YAML parser written in C is ten times as fast; not every installation of PyYAML contains it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RunRecord:
    """A run as described by the files of its folder.

    Attributes:
        folder: the path of the folder.
        results: the content of `results.json`.
    """

    folder: Path
    results: dict[str, Any]

    @cached_property
    def status(self) -> str:
        """`finished`, `failed`, `interrupted`, `running` or `killed`.

        A run is killed if `results.json` says that it is running, but no process holds its lock.
        """
        status = str(self.results["status"])
        return "killed" if status == "running" and not self.is_busy else status

    @property
    def is_busy(self) -> bool:
        """Whether a process holds the lock of the folder at this moment."""
        return is_locked(self.folder / LOCK)

    @property
    def error(self) -> str:
        """The reason why the run did not finish; empty if there is none."""
        if self.status == "killed":
            return "the process ended without writing a reason"
        return str(self.results.get("error") or "")

    @property
    def has_begun(self) -> bool:
        """Whether its configuration was accepted; a job whose configuration was refused is not compared."""
        return bool(self.results.get("conv"))

    @property
    def seed(self) -> int | None:
        """The seed of all random numbers of the run; None for a job that failed before it began."""
        return self.results.get("seed")

    @property
    def conv(self) -> str:
        """The option of the group `conv`, or the name of the user's own class."""
        return str(self.results.get("conv"))

    def choice(self, group: str, default: str = "-") -> str:
        """The option that was chosen from a group such as `model`; older runs store some of them at the top level."""
        return str((self.results.get("choices") or self.results).get(group, default))

    @property
    def epochs_done(self) -> int:
        """The number of epochs trained so far."""
        return int(self.results.get("epochs_done") or 0)

    @property
    def macs(self) -> int:
        """The number of multiply-accumulate operations for one image; 0 if it is not known yet."""
        return int(self.results.get("macs") or 0)

    @property
    def began_at(self) -> str:
        """The start time as ISO 8601 text in UTC; empty if the run has not begun."""
        return str(self.results.get("began_at") or "")

    @property
    def ended_at(self) -> str:
        """The end time as ISO 8601 text in UTC; empty while the run is in progress."""
        return str(self.results.get("ended_at") or "")

    @property
    def seconds_total(self) -> float | None:
        """The wall-clock time of the run in seconds, summed over all parts of a resumed run."""
        return self.results.get("seconds_total")

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy so far, in [0, 1]; None before the end of the first epoch."""
        best = self.results.get("best")
        return best["val"]["accuracy"] if best else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; labels are indices into them."""
        return tuple(self.results.get("classes") or ())

    @property
    def command(self) -> str:
        """The command line that reproduces the run."""
        return str(self.results.get("command") or "")

    @property
    def config_hash(self) -> str | None:
        """The hash of the configuration, by which a sweep finds the folder of a job."""
        return self.results.get("config_hash")

    @property
    def variant_hash(self) -> str | None:
        """The hash of the configuration without the seed; None for older runs."""
        return self.results.get("variant_hash")

    @property
    def implementations(self) -> dict[str, str]:
        """The implementation of each convolution, by its name in the network before the swap."""
        return {row["name"]: row["implementation"] for row in self.results.get("swap") or ()}

    def images(self, split: str) -> int | None:
        """The number of images of a split; None for older runs."""
        return (self.results.get("images") or {}).get(split)

    @property
    def records_parts(self) -> bool:
        """Whether the run records how each of its parts was computed; older runs do not."""
        return "computed" in self.results

    def parts(self) -> list[dict[str, Any]]:
        """How each part of the run was computed: one entry for the start and one for each resume, oldest first.

        For an older run, which does not record its parts, a single entry contains what is known about its start.
        """
        if self.records_parts:
            return list(self.results["computed"])
        if "device" not in self.results:
            return []  # the network has not been built yet
        kept = {key: self.results[key] for key in ("code", "device", "compiled") if key in self.results}
        return [{"from_epoch": 0, **kept, **self.results.get("versions", {})}]

    def score(self, split: str, name: str) -> float | None:
        """A score of a split; None if the run does not have it, or if it is NaN or infinite.

        Args:
            split: `train`, `val` or `test`, with the weights of the last epoch; or `best.val` or `best.test`, with the
                weights of the epoch of the best validation accuracy.
            name: the name of the score, such as `accuracy`.
        """
        node: Any = self.results
        for key in (*split.split("."), name):
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def digests(self) -> dict[tuple[str, str], str]:
        """The digests of the images; empty for older runs, which do not record them.

        Returns:
            A dictionary from (split, what was hashed of each image: its pixels or its file size) to the digest.
        """
        splits = (self.results.get("identity") or {}).get("splits") or {}
        return {(split, str(entry.get("of"))): entry["digest"] for split, entry in splits.items() if entry}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, one per epoch."""
        return list(json_rows(self.folder / METRICS))

    def routing(self) -> list[dict[str, Any]]:
        """The rows of `routing.jsonl`, one per epoch; empty if there is no such file.

        If a resumed run wrote two rows for an epoch, the later one counts.
        """
        rows = {row["epoch"]: row for row in json_rows(self.folder / ROUTING)}
        return [rows[epoch] for epoch in sorted(rows) if epoch <= self.epochs_done]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The composed configuration; empty if it cannot be read."""
        try:
            text = read_text(self.folder / CONFIG)
        except OSError:
            return {}
        for loader in (_LOADER, yaml.SafeLoader):  # the parser written in C refuses paths that are not valid UTF-8
            with contextlib.suppress(yaml.YAMLError):
                loaded = yaml.load(text, loader)
                return loaded if isinstance(loaded, dict) else {}
        return {}

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key of the results or of a dotted key of the configuration; `default` if there is none."""
        if key in self.results:
            return self.results[key]
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def keys(self) -> Iterator[str]:
        """The keys of the results and the dotted keys of the configuration."""

        def walk(node: dict[str, Any], prefix: str) -> Iterator[str]:
            for key, value in node.items():
                if isinstance(value, dict):
                    yield from walk(value, f"{prefix}{key}.")
                else:
                    yield f"{prefix}{key}"

        yield from self.results
        yield from walk(self.config, "")


def check_keys(keys: Iterable[str], runs: Sequence[RunRecord]) -> None:
    """Refuse a key that no run has, such as a mistyped one; it would match no run, or make all runs appear equal.

    Raises:
        UserError: if no run has one of the keys; the message lists similar keys.
    """
    for key in keys if runs else ():
        if key not in _COMMON_KEYS and all(run.value(key, _ABSENT) is _ABSENT for run in runs):
            known = {*_COMMON_KEYS, *(name for run in runs[:_MAX_RUNS_FOR_KEYS] for name in run.keys())}  # noqa: SIM118
            raise UserError(f"no run has a key {key}: choose {', '.join(near(key, known))} ({key})")


@dataclass(frozen=True)
class Found:
    """The result of a search for runs.

    Attributes:
        runs: the runs, sorted by folder.
        broken: the run folders that cannot be read, each with the reason.
    """

    runs: list[RunRecord]
    broken: list[tuple[Path, str]]


def find_runs(folders: Iterable[Path]) -> Found:
    """All runs in the given folders and below them, each once.

    The rows of the swapped layers, which are most of a file and tell no run from another, are left out of the results.
    """
    runs: dict[Path, RunRecord] = {}
    broken: dict[Path, str] = {}
    for folder in folders:
        for place in _run_folders(folder):
            try:
                results = read_results(place)
                results.pop("swap", None)
                runs[place] = RunRecord(place, results)
            except (OSError, ValueError) as error:
                broken[place] = str(error)
    return Found([runs[place] for place in sorted(runs)], sorted(broken.items()))


def _run_folders(folder: Path) -> Iterator[Path]:
    """The folders with a `results.json` or a `config.yaml`; run folders are not searched for further runs."""
    subfolders = []
    is_run = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in (RESULTS, CONFIG):
                    is_run = True
                elif entry.name not in _SKIPPED_FOLDERS and entry.is_dir():
                    subfolders.append(entry.path)
    except OSError:
        return
    if is_run:
        yield folder
        return
    for path in sorted(subfolders):
        yield from _run_folders(Path(path))


def read_results(folder: Path) -> dict[str, Any]:
    """The content of `results.json`.

    NaN and infinity, which are not valid JSON but which some writers produce, become None.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if the file is missing, is not valid JSON, or has no status.
    """
    path = folder / RESULTS
    if not path.exists():
        raise ValueError(f"there is no {RESULTS}")
    try:
        results = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except ValueError as error:
        raise ValueError(f"{RESULTS} is not valid JSON: {error}") from None
    if not isinstance(results, dict) or "status" not in results:
        raise ValueError(f"{RESULTS} has no status")
    return results


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file, up to the first invalid line, which a killed process may have left incomplete."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            return
        yield row
