"""Learning rate and temperature as functions of one clock: the step.

Pure Python; the training step writes the values where the device reads them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from convbench.errors import UserError


@dataclass(frozen=True)
class Clock:
    """How long a run is.

    Attributes:
        epochs: of the run.
        steps_per_epoch: optimizer steps an epoch.
    """

    epochs: int
    steps_per_epoch: int

    def done(self, step: int) -> float:
        """The share of the run that lies before `step`, from 0 to 1."""
        return step / (self.epochs * self.steps_per_epoch)

    def epoch(self, step: int) -> float:
        """Epochs before `step`, with fraction."""
        return step / self.steps_per_epoch


class Schedule(ABC):
    """The learning rate of each step as a share of `optimizer.lr`.

    Args:
        warmup_epochs: epochs over which the share rises linearly from 0; the shape below goes on meanwhile.
    """

    def __init__(self, warmup_epochs: float = 0.0) -> None:
        self.warmup_epochs = warmup_epochs

    def __call__(self, step: int, clock: Clock) -> float:
        """The share for `step`, counted from 0."""
        warm = min(1.0, (clock.epoch(step + 1)) / self.warmup_epochs) if self.warmup_epochs else 1.0
        return warm * self.shape(clock.done(step))

    @abstractmethod
    def shape(self, done: float) -> float:
        """The share after `done` (0 to 1) of the run, warm-up apart."""


class Constant(Schedule):
    """Always 1."""

    def shape(self, done: float) -> float:
        """1 throughout."""
        return 1.0


class Linear(Schedule):
    """A straight line from 1 to `end`."""

    def __init__(self, end: float = 0.0, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        self.end = _share("end", end)

    def shape(self, done: float) -> float:
        """From 1 to `end`."""
        return 1.0 + (self.end - 1.0) * done


class Cosine(Schedule):
    """Half a cosine from 1 to `end`."""

    def __init__(self, end: float = 0.0, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        self.end = _share("end", end)

    def shape(self, done: float) -> float:
        """From 1 to `end`."""
        return _half_cosine(1.0, self.end, done)


class Step(Schedule):
    """Multiplied by `gamma` at each milestone.

    Args:
        milestones: shares of the run, rising, between 0 and 1.
        gamma: the factor.
        warmup_epochs: see `Schedule`.

    Raises:
        UserError: for milestones that are not rising shares.
    """

    def __init__(self, milestones: Sequence[float], gamma: float = 0.1, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        if list(milestones) != sorted(milestones) or any(not 0 < milestone < 1 for milestone in milestones):
            raise UserError(
                f"milestones {list(milestones)} must be rising shares of the run between 0 and 1 (schedule.milestones)"
            )
        self.milestones = tuple(milestones)
        self.gamma = gamma

    def shape(self, done: float) -> float:
        """`gamma` to the number of milestones passed."""
        return self.gamma ** sum(done >= milestone for milestone in self.milestones)


class OneCycle(Schedule):
    """Half a cosine from `start` up to 1 at `peak`, and another one down to `end` (Smith & Topin, 2018).

    Only the learning rate is cycled: the momentum stays as it is, where the paper lets it fall and rise against the
    learning rate. `end` is a share of the peak, as `start` is; PyTorch's OneCycleLR divides the start by 1e4 instead,
    and so ends at 4e-6 of the peak. The last step lies one step before the end.

    Args:
        peak: share of the run at which 1 is reached.
        start, end: shares of the learning rate at the two ends.
        warmup_epochs: see `Schedule`.

    Raises:
        UserError: for a peak outside the run.
    """

    def __init__(self, peak: float = 0.3, start: float = 0.04, end: float = 1e-4, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        if not 0 < peak < 1:
            raise UserError(
                f"a peak at {peak} of the run is out of range: give a share between 0 and 1 (schedule.peak)"
            )
        self.peak = peak
        self.start = _share("start", start)
        self.end = _share("end", end)

    def shape(self, done: float) -> float:
        """From `start` over 1 to `end`."""
        if done < self.peak:
            return _half_cosine(self.start, 1.0, done / self.peak)
        return _half_cosine(1.0, self.end, (done - self.peak) / (1.0 - self.peak))


class Anneal:
    """The temperature of per-image convolutions: linear from `start` to `end`, then constant.

    Source: "Dynamic convolution for image classification" (Chen et al., CVPR 2020): 30 to 1 over the first 10 epochs.

    Args:
        start, end: temperatures, above 0.
        epochs: over which it falls; 0 starts at `end`.
    """

    def __init__(self, start: float = 30.0, end: float = 1.0, epochs: float = 10.0) -> None:
        self.start = start
        self.end = end
        self.epochs = epochs

    def __call__(self, step: int, clock: Clock) -> float:
        """The temperature of `step`, counted from 0."""
        done = min(1.0, clock.epoch(step) / self.epochs) if self.epochs else 1.0
        return self.start + (self.end - self.start) * done


def _half_cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * done))


def _share(key: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(
            f"{key}={value} is out of range: give a share of the learning rate from 0 to 1 (schedule.{key})"
        )
    return value
