"""What a training loop tells, and the base of those who listen."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """A glance at an epoch that is under way.

    Attributes:
        index: steps of the epoch done.
        images_seen: training images since the start of the run.
        loss, accuracy: means over the epoch so far.
        lr, temperature: of the last step; the temperature is None where no convolution has one.
    """

    index: int
    images_seen: int
    loss: float
    accuracy: float
    lr: float
    temperature: float | None


@dataclass(frozen=True)
class EpochRow:
    """What an epoch came to: a row of `metrics.jsonl`.

    Attributes:
        epoch: counted from 1.
        step: optimizer steps since the start of the run.
        train_loss, train_accuracy: means over the training samples as they were trained on, augmented.
        val_loss, val_accuracy: after the epoch.
        lr, temperature: of its last step; the temperature is None where no convolution has one.
        seconds: of its training steps; validation is not counted.
        images_per_second: training images over `seconds`.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    temperature: float | None
    seconds: float
    images_per_second: float


class Reporter:
    """Hears how training goes; a subclass overrides what it cares for."""

    def start_epoch(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        """Epoch `epoch` (from 1) of `epochs` starts, at step `first` of its `steps`."""

    def step(self) -> None:
        """A step was handed to the device; nobody may wait for it here."""

    def look(self, look: Look) -> None:
        """The host has read the running means."""

    def epoch(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """An epoch ended; `is_best` by validation accuracy so far."""
