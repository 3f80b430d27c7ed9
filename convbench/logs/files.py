"""The plain files of a run folder: `results.json`, `metrics.jsonl`, `config.yaml`, `checkpoints/`."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.errors import UserError


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


def _json(value: Any) -> str:
    # NaN and infinity are no JSON, and the loss of a run that diverged is one of them
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(value), allow_nan=False)


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
        folder.results = json.loads(folder.results_path.read_text())
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
    def metrics_path(self) -> Path:
        """A row an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def last_checkpoint(self) -> Path:
        """After the last epoch, or where the run was interrupted."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        """After the epoch of the best validation accuracy."""
        return self.path / "checkpoints" / "best.pt"

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
            temporary.write_text(_json(self.results) + "\n")

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch."""
        with self.metrics_path.open("a") as file:
            file.write(_json(row) + "\n")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """The rows of the first `epochs` epochs; later ones, and half a line, are dropped from the file.

        A run that was killed may have written more rows than its last checkpoint can go on from.
        """
        if not self.metrics_path.exists():
            return []
        rows = [json.loads(line) for line in self.metrics_path.read_text().splitlines()[:epochs]]
        with atomic_path(self.metrics_path) as temporary:
            temporary.write_text("".join(_json(row) + "\n" for row in rows))
        return rows
