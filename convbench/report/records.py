"""Run folders as they lie on disk: found, read, and never fatal when broken."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from convbench.errors import UserError
from convbench.logs.files import RunFolder
from convbench.schema import near
from convbench.text import read_text

_DERIVED = ("status", "model", "conv", "data", "augment", "optimizer", "schedule")  # known of every run that has begun
_ASKED = 100  # runs whose keys are told to whoever has mistyped one
_ABSENT = object()
# What lies in or beside run folders and holds no runs.
_NO_RUNS = {"checkpoints", "evaluation", "report", ".submitit", ".git"}
# The parser written in C, ten times as fast, where PyYAML comes with it
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Run:
    """A run, as its folder tells of it.

    Attributes:
        folder: where it lies.
        results: what `results.json` says, but for the layers that were swapped.
    """

    folder: Path
    results: dict[str, Any]

    @cached_property
    def status(self) -> str:
        """`finished`, `failed`, `interrupted`, `running`, or `killed`: it says it runs, and no process does."""
        status = str(self.results["status"])
        return "killed" if status == "running" and not RunFolder(self.folder).is_locked else status

    @property
    def seed(self) -> int | None:
        """Of initial weights and the order of the images; None for a job that failed before it began."""
        return self.results.get("seed")

    @property
    def error(self) -> str:
        """Why it did not finish."""
        if self.status == "killed":
            return "its process ended without a word"
        return str(self.results.get("error") or "")

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

    def rows(self) -> list[dict[str, Any]]:
        """`metrics.jsonl`: a row an epoch."""
        return list(_json_lines(self.folder / "metrics.jsonl"))

    def routing(self) -> list[dict[str, Any]]:
        """`routing.jsonl`: a row an epoch, the later one where a resumed run wrote two; empty where there is none."""
        rows = {row["epoch"]: row for row in _json_lines(self.folder / "routing.jsonl")}
        done = self.results.get("epochs_done", 0)
        return [rows[epoch] for epoch in sorted(rows) if epoch <= done]

    def config(self) -> dict[str, Any]:
        """The composed configuration; empty if it cannot be read."""
        try:
            text = read_text(self.folder / "config.yaml")
        except OSError:
            return {}
        for loader in (_LOADER, yaml.SafeLoader):  # the one in C takes no bytes of a path that are no UTF-8
            with contextlib.suppress(yaml.YAMLError):
                loaded = yaml.load(text, loader)
                return loaded if isinstance(loaded, dict) else {}
        return {}

    def value(self, key: str, default: Any = None) -> Any:
        """What the run has for a key of its results or, dotted, of its configuration; `default` if it has none."""
        if key in self.results:
            return self.results[key]
        value: Any = self.config()
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
        yield from walk(self.config(), "")


def check_keys(keys: Iterable[str], runs: Sequence[Run]) -> None:
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

    runs: list[Run]
    broken: list[tuple[Path, str]]


def find_runs(folders: Iterable[Path]) -> Found:
    """All runs at and below some folders, each once."""
    runs: dict[Path, Run] = {}
    broken: dict[Path, str] = {}
    for folder in folders:
        for place in _run_folders(folder):
            try:
                runs[place] = Run(place, _results(place))
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
                if entry.name in ("results.json", "config.yaml"):
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


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    if not path.exists():
        raise ValueError("it has a config.yaml and no results.json")
    try:
        # NaN and infinity, which JSON lacks and some writers leave in it, are missing numbers
        results = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except ValueError as error:
        raise ValueError(f"results.json is no JSON: {error}") from None
    if not isinstance(results, dict) or "status" not in results:
        raise ValueError("results.json has no status")
    results.pop("swap", None)  # a row for each layer: most of the file, and nothing to compare
    return results


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
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
