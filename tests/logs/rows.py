"""Rows of epochs for the tests of those who listen to a training loop."""

from dataclasses import replace

from convbench.loggers.sink import EpochRow

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
    """The row of an epoch of 10 steps, with some values changed."""
    return replace(_ROW, epoch=epoch, step=10 * epoch, **changes)
