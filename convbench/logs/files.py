"""The plain files of a run folder: `results.json`, `metrics.jsonl`, `config.yaml`, `checkpoints/`."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.errors import UserError
from convbench.logs.plain_json import to_json
from convbench.text import open_text, read_text, write_text

_LOCK = ".lock"


def now() -> str:
    """The time as run folders have it: UTC, so that texts sort as times do."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class InUseError(UserError):
    """Another process is at work in a folder."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` in one move, and only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_text(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"another process is at work in {path.parent}; wait for it, or stop it") from None
        except OSError:
            pass  # a file system without locks: as good as it gets there
        yield


class RunFolder:
    """One run on disk.

    Args:
        path: the folder; made on first write.
        writes: False for a process that leaves it to another one to write.
    """

    def __init__(self, path: Path | str, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.results: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path | str, key: str, writes: bool = True) -> "RunFolder":
        """A run that exists.

        Args:
            path: its folder.
            key: the configuration key that named it, for the message.
            writes: False for a process that leaves it to another one to write.

        Raises:
            UserError: if it is not a run folder.
        """
        folder = cls(path, writes)
        if not folder.config_path.is_file() or not folder.results_path.is_file():
            raise UserError(
                f"{path} is not a run folder (it lacks config.yaml or results.json); give the folder of a run ({key})"
            )
        folder.results = json.loads(read_text(folder.results_path))
        return folder

    @property
    def results_path(self) -> Path:
        """What came out; valid JSON at every moment."""
        return self.path / "results.json"

    @property
    def config_path(self) -> Path:
        """The composed, resolved configuration."""
        return self.path / "config.yaml"

    @property
    def data_path(self) -> Path:
        """The files of each split, where the images are files."""
        return self.path / "data.json"

    @property
    def metrics_path(self) -> Path:
        """A row an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def routing_path(self) -> Path:
        """A row an epoch, where there are convolutions that mix kernels for each image."""
        return self.path / "routing.jsonl"

    @property
    def last_checkpoint(self) -> Path:
        """After the last epoch, or where the run was interrupted."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        """After the epoch of the best validation accuracy."""
        return self.path / "checkpoints" / "best.pt"

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes out for as long as the context lasts, or this process.

        Raises:
            InUseError: if another process holds it.
        """
        return _locked(self.path / _LOCK) if self.writes else contextlib.nullcontext()

    @property
    def is_locked(self) -> bool:
        """Whether a process works in it at this moment."""
        try:
            with (self.path / _LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def clear(self) -> None:
        """Remove what a run has left, as before its start; other files stay."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        for pattern in (
            "results.json",
            "data.json",
            "metrics.jsonl",
            "routing.jsonl",
            "traceback*.txt",
            "events.out.tfevents.*",
        ):
            for path in self.path.glob(pattern):
                path.unlink()
        self.results = {}

    def read_config(self) -> DictConfig:
        """The configuration of the run."""
        config = OmegaConf.load(self.config_path)
        assert isinstance(config, DictConfig)
        return config

    def write_config(self, config: DictConfig) -> None:
        """Keep the configuration, resolved, so that neither environment nor folder can change its meaning."""
        if not self.writes:
            return
        with atomic_path(self.config_path) as temporary:
            OmegaConf.save(config, temporary, resolve=True)

    def update_results(self, **changes: Any) -> None:
        """Change some entries of `results.json`."""
        self.results |= changes
        if not self.writes:
            return
        with atomic_path(self.results_path) as temporary:
            write_text(temporary, to_json(self.results) + "\n")

    def write_data(self, files: dict[str, Any]) -> None:
        """Keep the files of each split."""
        if not self.writes:
            return
        with atomic_path(self.data_path) as temporary:
            write_text(temporary, to_json(files) + "\n")

    def read_data(self) -> dict[str, Any] | None:
        """The files of each split; None for a run whose images are not files."""
        return json.loads(read_text(self.data_path)) if self.data_path.exists() else None

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch."""
        with open_text(self.metrics_path, "a") as file:
            file.write(to_json(row) + "\n")

    def append_routing(self, row: dict[str, Any]) -> None:
        """Add what the kernels of per-image convolutions were used for in an epoch; of two rows the later one holds."""
        with open_text(self.routing_path, "a") as file:
            file.write(to_json(row) + "\n")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """The rows of the first `epochs` epochs; later ones, and half a line, are dropped from the file.

        A run that was killed may have written more rows than its last checkpoint can go on from.
        """
        if not self.metrics_path.exists():
            return []
        rows = [json.loads(line) for line in read_text(self.metrics_path).splitlines()[:epochs]]
        with atomic_path(self.metrics_path) as temporary:
            write_text(temporary, "".join(to_json(row) + "\n" for row in rows))
        return rows
