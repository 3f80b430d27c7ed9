"""Helpers for the tests of sinks: example events of a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from convbench.loggers.sink import EpochRow, RunStart

_ROW = EpochRow(
    epoch=1,
    step=10,
    train_loss=1.5,
    train_accuracy=0.4,
    val_loss=1.25,
    val_accuracy=0.5,
    lr=0.1,
    temperature=None,
    seconds=2.0,
    images_per_second=640.0,
)


def epoch_row(epoch: int = 1, **changes: float | None) -> EpochRow:
    """An example row of an epoch with 10 steps; `changes` replaces some of its values."""
    return replace(_ROW, epoch=epoch, step=10 * epoch, **changes)


def started(
    sink: Any,
    folder: Path = Path("run"),
    images_seen: int = 0,
    facts: Mapping[str, str] | None = None,
    has_temperature: bool = False,
) -> Any:
    """Send the start of a run to a sink and return the sink."""
    sink.on_run_start(RunStart(folder, facts or {"data": "shapes"}, has_temperature, images_seen))
    return sink
