"""The interface of sinks, which receive the events of a training run: the events and the base class.

The configuration group `logger` selects the sinks. The keys of a yaml in this group are the constructor arguments of a
sink, which are options for the user. `on_run_start` passes everything that a sink must know about the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class RunStart:
    """The properties of a run before its first step.

    Attributes:
        folder: The run folder; its name is the name of the run.
        facts: Descriptions for the user by name: data, model, conv, ...
        has_temperature: Whether any convolution has a temperature that the run sets.
        images_seen: Number of training images before this start; more than 0 for a resumed run.
    """

    folder: Path
    facts: Mapping[str, str]
    has_temperature: bool
    images_seen: int


@dataclass(frozen=True)
class StepSummary:
    """Running means of an epoch, read every `engine.log_every` steps.

    Attributes:
        index: Number of steps done in the epoch.
        images_seen: Number of training images since the start of the run.
        loss: Mean training loss over the epoch so far, in nats.
        accuracy: Mean training accuracy over the epoch so far, from 0 to 1.
        lr: Learning rate of the last step.
        temperature: Temperature of the last step; None if no convolution has one.
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
        epoch: Number of the epoch, counted from 1.
        step: Number of optimizer steps since the start of the run.
        train_loss: Mean loss over the augmented training samples, measured during the steps, in nats.
        train_accuracy: Mean accuracy over the same samples, from 0 to 1.
        val_loss: Validation loss after the epoch, in nats.
        val_accuracy: Validation accuracy after the epoch, from 0 to 1.
        lr: Learning rate of the last step.
        temperature: Temperature of the last step; None if no convolution has one.
        seconds: Time of the training steps without the validation, in seconds.
        images_per_second: Number of training images of the epoch divided by `seconds`.
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
    """Receives the events of a training run. The methods do nothing; a subclass overrides those that it needs."""

    def on_run_start(self, run: RunStart) -> None:
        """The run starts: everything is built, and the first step follows."""

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        """Epoch `epoch` (counted from 1) of `epochs` starts with step `first` (counted from 0) of its `steps` steps."""

    def on_step(self) -> None:
        """A step was submitted to the device. A sink must not wait for the device here."""

    def on_summary(self, summary: StepSummary) -> None:
        """The host has read the running means."""

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """An epoch has ended; `is_best` tells whether its validation accuracy is the best so far."""

    def on_scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Additional numbers by tag, such as the entropy of the routing weights."""

    def on_images(self, images: Mapping[str, Tensor], images_seen: int) -> None:
        """Images by tag, uint8 `(C, H, W)`, such as the kernels of the first layer."""

    def on_run_end(self, choices: Mapping[str, str | float | bool], scores: Mapping[str, float]) -> None:
        """The run has finished: the chosen options by configuration key, and the final scores by tag."""

    def close(self) -> None:
        """Release all resources. It is also called if the run was interrupted or failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
