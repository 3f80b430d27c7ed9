"""The interface of sinks: what a run tells them, and the base class with methods that do nothing.

A sink is chosen by the group `logger`: its yaml is the call of its constructor, which takes what a user may set. What
a sink has to know of a run, it is told in `on_run_start`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class RunStart:
    """What is known of a run before its first step.

    Attributes:
        folder: the run folder; its name is the name of the run.
        facts: what was composed, a line for a person by name: data, model, conv, ...
        has_temperature: whether any convolution has a temperature that the run sets.
        images_seen: training images before this start; more than 0 for a run that is resumed.
    """

    folder: Path
    facts: Mapping[str, str]
    has_temperature: bool
    images_seen: int


@dataclass(frozen=True)
class StepSummary:
    """Running means of an epoch, read every `engine.log_every` steps.

    Attributes:
        index: steps of the epoch done.
        images_seen: training images since the start of the run.
        loss, accuracy: means over the epoch so far; the loss in nats, the accuracy from 0 to 1.
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
    """The results of an epoch: a row of `metrics.jsonl`.

    Attributes:
        epoch: counted from 1.
        step: optimizer steps since the start of the run.
        train_loss, train_accuracy: means over the training samples as they were trained on, augmented.
        val_loss, val_accuracy: after the epoch.
        lr, temperature: of its last step; the temperature is None where no convolution has one.
        seconds: time of its training steps; validation is not counted.
        images_per_second: training images divided by `seconds`.
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


class Sink:
    """Receives the events of a training run; a subclass overrides the methods that it needs."""

    def on_run_start(self, run: RunStart) -> None:
        """The run is composed, and its first step follows."""

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        """Epoch `epoch` (from 1) of `epochs` starts, at step `first` of its `steps`."""

    def on_step(self) -> None:
        """A step was handed to the device; a sink must not wait for the device here."""

    def on_summary(self, summary: StepSummary) -> None:
        """The host has read the running means."""

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """An epoch ended; `is_best` says whether its validation accuracy is the best so far."""

    def on_scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Further numbers by tag, such as the entropy of a routing."""

    def on_images(self, images: Mapping[str, Tensor], images_seen: int) -> None:
        """Images by tag, uint8 `(C, H, W)`, such as the kernels of the first layer."""

    def on_run_end(self, choices: Mapping[str, str | float | bool], scores: Mapping[str, float]) -> None:
        """The run has finished: what was chosen, by key, and the final scores, by tag."""

    def close(self) -> None:
        """The process is done with the run, whether it has finished or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
