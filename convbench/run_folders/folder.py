"""The layout of a run folder, and everything that is written to it."""

import contextlib
import json
import shutil
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.config.options import load_option
from convbench.errors import UserError
from convbench.files import atomic_path, open_text, read_text, to_json, write_json, write_text
from convbench.run_folders.locking import locked
from convbench.run_folders.record import (
    CONFIG,
    DATA,
    LOCK,
    METRICS,
    RESULTS,
    ROUTING,
    RunRecord,
    json_rows,
    read_results,
)

_LEFT_BY_A_RUN = (RESULTS, DATA, METRICS, ROUTING, "traceback*.txt", "events.out.tfevents.*")


def now() -> str:
    """The time as run folders have it: UTC, so that texts sort as times do."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RunFolder:
    """The folder of a run, written by one process.

    Args:
        path: the folder; created by the first write.
        writes: False for a process that leaves the writing to another one.

    Attributes:
        results: the content of `results.json`.
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
        try:
            folder.results = read_results(folder.path)
        except ValueError as error:
            raise UserError(f"{path} cannot be read ({error}); give the folder of another run ({key})") from None
        return folder

    @property
    def record(self) -> RunRecord:
        """What its results say, typed."""
        return RunRecord(self.path, self.results)

    @property
    def results_path(self) -> Path:
        """What came out; valid JSON at every moment."""
        return self.path / RESULTS

    @property
    def config_path(self) -> Path:
        """The composed, resolved configuration."""
        return self.path / CONFIG

    @property
    def data_path(self) -> Path:
        """The files of each split, where the images are files."""
        return self.path / DATA

    @property
    def metrics_path(self) -> Path:
        """A row an epoch."""
        return self.path / METRICS

    @property
    def routing_path(self) -> Path:
        """A row an epoch, where there are convolutions that mix kernels for each image."""
        return self.path / ROUTING

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
        return locked(self.path / LOCK) if self.writes else contextlib.nullcontext()

    def clear(self) -> None:
        """Remove what a run has left, as before its start; other files stay."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        for pattern in _LEFT_BY_A_RUN:
            for path in self.path.glob(pattern):
                path.unlink()
        self.results = {}

    def read_config(self) -> DictConfig:
        """The configuration of the run; sections that later versions added have their defaults."""
        added = OmegaConf.create({"logger": {}})
        for name in ("console", "tensorboard"):
            added.logger.merge_with(load_option("logger", name, "logger"))
        recorded = OmegaConf.load(self.config_path)
        config = recorded if "logger" in recorded else OmegaConf.merge(added, recorded)
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
        write_json(self.results_path, self.results)

    def write_data(self, files: dict[str, Any]) -> None:
        """Keep the files of each split."""
        if not self.writes:
            return
        write_json(self.data_path, files)

    def read_data(self) -> dict[str, Any] | None:
        """The files of each split; None for a run whose images are not files."""
        return json.loads(read_text(self.data_path)) if self.data_path.exists() else None

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch."""
        _append(self.metrics_path, row)

    def append_routing(self, row: dict[str, Any]) -> None:
        """Add what the kernels of per-image convolutions were used for in an epoch; of two rows the later one holds."""
        _append(self.routing_path, row)

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """The rows of the first `epochs` epochs; later ones, and half a line, are dropped from the file.

        A run that was killed may have written more rows than its last checkpoint can go on from.
        """
        if not self.metrics_path.exists():
            return []
        rows = list(json_rows(self.metrics_path))[:epochs]
        write_text(self.metrics_path, "".join(to_json(row) + "\n" for row in rows))
        return rows


def _append(path: Path, row: dict[str, Any]) -> None:
    with open_text(path, "a") as file:
        file.write(to_json(row) + "\n")
