"""The layout of a run folder, and all functions that write to it."""

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

_RUN_FILES = (RESULTS, DATA, METRICS, ROUTING, "traceback*.txt", "events.out.tfevents.*")


def now() -> str:
    """The current time as ISO 8601 text in UTC, so that sorting the texts sorts the times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RunFolder:
    """A run folder, to which a single process writes.

    Args:
        path: the folder; it is created by the first write.
        writes: False in a process other than process 0 of a distributed run: it takes no lock and writes neither
            results nor configuration.

    Attributes:
        results: the content of `results.json`.
    """

    def __init__(self, path: Path | str, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.results: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path | str, key: str, writes: bool = True) -> "RunFolder":
        """Open the folder of an existing run.

        Args:
            path: the folder.
            key: the configuration key that named the folder, for the error message.
            writes: as in the constructor.

        Raises:
            UserError: if the folder is not a run folder, or its results cannot be read.
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
        """The results with typed properties."""
        return RunRecord(self.path, self.results)

    @property
    def results_path(self) -> Path:
        """The file of the results; its content is valid JSON at any time."""
        return self.path / RESULTS

    @property
    def config_path(self) -> Path:
        """The file of the composed, resolved configuration."""
        return self.path / CONFIG

    @property
    def data_path(self) -> Path:
        """The list of the image files of each split; only for data sets that consist of image files."""
        return self.path / DATA

    @property
    def metrics_path(self) -> Path:
        """The metrics, one row per epoch."""
        return self.path / METRICS

    @property
    def routing_path(self) -> Path:
        """The routing statistics, one row per epoch; only with convolutions that mix kernels per image."""
        return self.path / ROUTING

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint of the last epoch, or of the step at which the run was interrupted."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint of the epoch with the best validation accuracy."""
        return self.path / "checkpoints" / "best.pt"

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder against other processes while the context is active.

        Raises:
            InUseError: if another process holds the lock.
        """
        return locked(self.path / LOCK) if self.writes else contextlib.nullcontext()

    def clear(self) -> None:
        """Remove all files that a run has written, and keep other files."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        for pattern in _RUN_FILES:
            for path in self.path.glob(pattern):
                path.unlink()
        self.results = {}

    def read_config(self) -> DictConfig:
        """The configuration of the run; sections that later versions added get their default values."""
        config = OmegaConf.load(self.config_path)
        assert isinstance(config, DictConfig)
        if "logger" not in config:  # the version before this key had these two loggers, and no others
            config.logger = OmegaConf.merge(
                *(load_option("logger", name, "logger") for name in ("console", "tensorboard"))
            )
        return config

    def write_config(self, config: DictConfig) -> None:
        """Write the configuration, resolved, so that its meaning does not depend on the environment or the folder."""
        if not self.writes:
            return
        with atomic_path(self.config_path) as temporary:
            OmegaConf.save(config, temporary, resolve=True)

    def update_results(self, **changes: Any) -> None:
        """Set entries of `results.json`; the other entries stay."""
        self.results |= changes
        if not self.writes:
            return
        write_json(self.results_path, self.results)

    def write_data(self, files: dict[str, Any]) -> None:
        """Write the list of the image files of each split."""
        if not self.writes:
            return
        write_json(self.data_path, files)

    def read_data(self) -> dict[str, Any] | None:
        """The image files of each split; None for a run whose data set does not consist of image files."""
        return json.loads(read_text(self.data_path)) if self.data_path.exists() else None

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append the metrics of an epoch."""
        _append(self.metrics_path, row)

    def append_routing(self, row: dict[str, Any]) -> None:
        """Append the routing statistics of an epoch; if a resumed run writes an epoch twice, the later row counts."""
        _append(self.routing_path, row)

    def truncate_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Truncate the metrics to the first `epochs` epochs and return their rows.

        A run that was killed may have written an incomplete line, or rows of epochs after its last checkpoint.
        """
        if not self.metrics_path.exists():
            return []
        rows = list(json_rows(self.metrics_path))[:epochs]
        write_text(self.metrics_path, "".join(to_json(row) + "\n" for row in rows))
        return rows


def _append(path: Path, row: dict[str, Any]) -> None:
    with open_text(path, "a") as file:
        file.write(to_json(row) + "\n")
