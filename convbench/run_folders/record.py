"""The one reader of run folders: names of the files, a typed record of a run, and the search for runs."""

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

_DERIVED = ("status", "model", "conv", "data", "augment", "optimizer", "schedule")  # known of every run that has begun
_ASKED = 100  # runs whose keys are told to whoever has mistyped one
_ABSENT = object()
# What lies in or beside run folders and holds no runs.
_NO_RUNS = {"checkpoints", "evaluation", "report", ".submitit", ".git"}
# The parser written in C, ten times as fast, where PyYAML comes with it
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RunRecord:
    """A run, as its folder describes it.

    Attributes:
        folder: path of the folder.
        results: content of `results.json`.
    """

    folder: Path
    results: dict[str, Any]

    @cached_property
    def status(self) -> str:
        """`finished`, `failed`, `interrupted`, `running`, or `killed`: it says it runs, and no process does."""
        status = str(self.results["status"])
        return "killed" if status == "running" and not self.is_busy else status

    @property
    def is_busy(self) -> bool:
        """Whether a process is working in the folder at this moment."""
        return is_locked(self.folder / LOCK)

    @property
    def error(self) -> str:
        """Why the run did not finish."""
        if self.status == "killed":
            return "the process ended without writing a reason"
        return str(self.results.get("error") or "")

    @property
    def has_begun(self) -> bool:
        """Whether its configuration was accepted; a job that was refused before is no run to compare."""
        return bool(self.results.get("conv"))

    @property
    def seed(self) -> int | None:
        """The seed of initial weights and of the order of the images; None for a job that failed before it began."""
        return self.results.get("seed")

    @property
    def conv(self) -> str:
        """The option of the group `conv`, or the name of a user's own class."""
        return str(self.results.get("conv"))

    def choice(self, group: str, default: str = "-") -> str:
        """The option that was chosen of a group such as `model`; older runs keep some of them at the top level."""
        return str((self.results.get("choices") or self.results).get(group, default))

    @property
    def epochs_done(self) -> int:
        """Epochs trained so far."""
        return int(self.results.get("epochs_done") or 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for one image; 0 where they are not known yet."""
        return int(self.results.get("macs") or 0)

    @property
    def began_at(self) -> str:
        """The time of its start as ISO 8601 text in UTC; empty if it has not begun."""
        return str(self.results.get("began_at") or "")

    @property
    def ended_at(self) -> str:
        """The time of its end as ISO 8601 text in UTC; empty while it runs."""
        return str(self.results.get("ended_at") or "")

    @property
    def seconds_total(self) -> float | None:
        """Wall-clock seconds of all its parts together."""
        return self.results.get("seconds_total")

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy so far, from 0 to 1; None before the end of the first epoch."""
        best = self.results.get("best")
        return best["val"]["accuracy"] if best else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a label is an index into them."""
        return tuple(self.results.get("classes") or ())

    @property
    def command(self) -> str:
        """The command line that trains the run again."""
        return str(self.results.get("command") or "")

    @property
    def config_hash(self) -> str | None:
        """The hash of its configuration, by which a sweep finds the folder of a job."""
        return self.results.get("config_hash")

    @property
    def variant_hash(self) -> str | None:
        """The hash of its configuration without the seed; None for older runs."""
        return self.results.get("variant_hash")

    @property
    def implementations(self) -> dict[str, str]:
        """Name of each convolution of the plain network -> the implementation it computes with."""
        return {row["name"]: row["implementation"] for row in self.results.get("swap") or ()}

    def images(self, split: str) -> int | None:
        """The number of images of a split; None for older runs."""
        return (self.results.get("images") or {}).get(split)

    @property
    def records_parts(self) -> bool:
        """Whether the run records how each part of it was computed; older ones do not."""
        return "computed" in self.results

    def parts(self) -> list[dict[str, Any]]:
        """How the parts of the run were computed, one for each start or resume, oldest first.

        Of a run of a version that did not write them: what is known of its start.
        """
        if self.records_parts:
            return list(self.results["computed"])
        if "device" not in self.results:
            return []  # it has not been composed yet
        kept = {key: self.results[key] for key in ("code", "device", "compiled") if key in self.results}
        return [{"from_epoch": 0, **kept, **self.results.get("versions", {})}]

    def score(self, split: str, name: str) -> float | None:
        """A number of a split, such as `accuracy` of `test`, or `best.test`: with the weights of the best epoch.

        None where the run has none, and for NaN and infinity.
        """
        node: Any = self.results
        for key in (*split.split("."), name):
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def digests(self) -> dict[tuple[str, str], str]:
        """Split and what stands for an image -> digest of its images; empty for older runs, which do not say it."""
        splits = (self.results.get("identity") or {}).get("splits") or {}
        return {(split, str(told.get("of"))): told["digest"] for split, told in splits.items() if told}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """`metrics.jsonl`: a row an epoch."""
        return list(json_rows(self.folder / METRICS))

    def routing(self) -> list[dict[str, Any]]:
        """`routing.jsonl`: a row an epoch, the later one where a resumed run wrote two; empty where there is none."""
        rows = {row["epoch"]: row for row in json_rows(self.folder / ROUTING)}
        return [rows[epoch] for epoch in sorted(rows) if epoch <= self.epochs_done]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The composed configuration; empty if it cannot be read."""
        try:
            text = read_text(self.folder / CONFIG)
        except OSError:
            return {}
        for loader in (_LOADER, yaml.SafeLoader):  # the one in C takes no bytes of a path that are no UTF-8
            with contextlib.suppress(yaml.YAMLError):
                loaded = yaml.load(text, loader)
                return loaded if isinstance(loaded, dict) else {}
        return {}

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key of its results or, dotted, of its configuration; `default` if it has none."""
        if key in self.results:
            return self.results[key]
        value: Any = self.config
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def keys(self) -> Iterator[str]:
        """The keys for which it has a value, those of its configuration dotted."""

        def walk(node: dict[str, Any], prefix: str) -> Iterator[str]:
            for key, value in node.items():
                if isinstance(value, dict):
                    yield from walk(value, f"{prefix}{key}.")
                else:
                    yield f"{prefix}{key}"

        yield from self.results
        yield from walk(self.config, "")


def check_keys(keys: Iterable[str], runs: Sequence[RunRecord]) -> None:
    """Refuse a key that no run has: it would tell no run from another, as if all were alike.

    Raises:
        UserError: naming the keys that come near it.
    """
    for key in keys if runs else ():
        if key not in _DERIVED and all(run.value(key, _ABSENT) is _ABSENT for run in runs):
            known = {*_DERIVED, *(name for run in runs[:_ASKED] for name in run.keys())}  # noqa: SIM118
            raise UserError(f"no run has a key {key}: choose {', '.join(near(key, known))} ({key})")


@dataclass(frozen=True)
class Found:
    """What a search through folders came to.

    Attributes:
        runs: sorted by folder.
        broken: folders of runs that cannot be read, and why.
    """

    runs: list[RunRecord]
    broken: list[tuple[Path, str]]


def find_runs(folders: Iterable[Path]) -> Found:
    """All runs at and below some folders, each once."""
    runs: dict[Path, RunRecord] = {}
    broken: dict[Path, str] = {}
    for folder in folders:
        for place in _run_folders(folder):
            try:
                runs[place] = RunRecord(place, read_results(place))
            except (OSError, ValueError) as error:
                broken[place] = str(error)
    return Found([runs[place] for place in sorted(runs)], sorted(broken.items()))


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders that hold a `results.json` or a `config.yaml`; runs lie side by side: none is looked for inside one."""
    below = []
    is_run = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in (RESULTS, CONFIG):
                    is_run = True
                elif entry.name not in _NO_RUNS and entry.is_dir():
                    below.append(entry.path)
    except OSError:
        return
    if is_run:
        yield folder
        return
    for path in sorted(below):
        yield from _run_folders(Path(path))


def read_results(folder: Path) -> dict[str, Any]:
    """The content of `results.json`.

    NaN and infinity, which JSON lacks and some writers leave in it, become None.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is missing, is no JSON or has no status.
    """
    path = folder / RESULTS
    if not path.exists():
        raise ValueError(f"there is no {RESULTS}")
    try:
        results = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except ValueError as error:
        raise ValueError(f"{RESULTS} is no JSON: {error}") from None
    if not isinstance(results, dict) or "status" not in results:
        raise ValueError(f"{RESULTS} has no status")
    return results


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file to which a killed run may have added half a line."""
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
