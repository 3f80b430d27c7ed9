"""Schedules: the learning rate and the temperature as functions of the step.

They compute Python numbers; the training step copies these to the device.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from convbench.errors import UserError


@dataclass(frozen=True)
class Clock:
    """The length of a run.

    Attributes:
        epochs: Number of epochs.
        steps_per_epoch: Number of optimizer steps per epoch.
    """

    epochs: int
    steps_per_epoch: int

    def done(self, step: int) -> float:
        """The fraction of the run before `step`, from 0 to 1."""
        return step / (self.epochs * self.steps_per_epoch)

    def epoch(self, step: int) -> float:
        """The number of epochs before `step`, with a fractional part."""
        return step / self.steps_per_epoch


class Schedule(ABC):
    """A factor on the learning rate `optimizer.lr` for each step, from 0 to 1.

    Args:
        warmup_epochs: Number of epochs over which the factor is multiplied by a linear increase from 0 to 1; 0 for no
            warmup. The schedule below the warmup starts at step 0, too.
    """

    def __init__(self, warmup_epochs: float = 0.0) -> None:
        self.warmup_epochs = warmup_epochs

    def __call__(self, step: int, clock: Clock) -> float:
        """The factor for `step`, counted from 0."""
        warm = min(1.0, (clock.epoch(step + 1)) / self.warmup_epochs) if self.warmup_epochs else 1.0
        return warm * self.shape(clock.done(step))

    @abstractmethod
    def shape(self, done: float) -> float:
        """The factor without warmup, after the fraction `done` of the run (0 to 1)."""


class Constant(Schedule):
    """The constant factor 1."""

    def shape(self, done: float) -> float:
        """The factor 1."""
        return 1.0


class Linear(Schedule):
    """A linear decrease from 1 to `end`."""

    def __init__(self, end: float = 0.0, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        self.end = _check_factor("end", end)

    def shape(self, done: float) -> float:
        """The factor, which decreases from 1 to `end`."""
        return 1.0 + (self.end - 1.0) * done


class Cosine(Schedule):
    """A cosine decrease (half a period) from 1 to `end`."""

    def __init__(self, end: float = 0.0, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        self.end = _check_factor("end", end)

    def shape(self, done: float) -> float:
        """The factor, which decreases from 1 to `end`."""
        return _half_cosine(1.0, self.end, done)


class Step(Schedule):
    """A multiplication by `gamma` at each milestone.

    Args:
        milestones: Fractions of the run in increasing order, between 0 and 1.
        gamma: The factor at each milestone.
        warmup_epochs: See `Schedule`.

    Raises:
        UserError: The milestones are not increasing fractions between 0 and 1.
    """

    def __init__(self, milestones: Sequence[float], gamma: float = 0.1, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        if list(milestones) != sorted(milestones) or any(not 0 < milestone < 1 for milestone in milestones):
            raise UserError(
                f"milestones {list(milestones)} must be increasing fractions of the run between 0 and 1 "
                "(schedule.milestones)"
            )
        self.milestones = tuple(milestones)
        self.gamma = gamma

    def shape(self, done: float) -> float:
        """`gamma` to the power of the number of milestones passed."""
        return self.gamma ** sum(done >= milestone for milestone in self.milestones)


class OneCycle(Schedule):
    """A cosine increase from `start` to 1 at `peak`, then a cosine decrease to `end` (Smith & Topin, 2018).

    Only the learning rate changes. The momentum is constant; in the paper it decreases while the learning rate
    increases, and vice versa. `start` and `end` are fractions of the peak learning rate. PyTorch's OneCycleLR divides
    the start by 1e4 instead, and so ends at 4e-6 of the peak. The last step is one step before `end` would be reached.

    Args:
        peak: Fraction of the run at which the factor is 1.
        start: Factor at the start of the run, from 0 to 1.
        end: Factor at the end of the run, from 0 to 1.
        warmup_epochs: See `Schedule`.

    Raises:
        UserError: `peak`, `start` or `end` is out of range.
    """

    def __init__(self, peak: float = 0.3, start: float = 0.04, end: float = 1e-4, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs)
        if not 0 < peak < 1:
            raise UserError(f"peak={peak} is out of range: give a fraction of the run between 0 and 1 (schedule.peak)")
        self.peak = peak
        self.start = _check_factor("start", start)
        self.end = _check_factor("end", end)

    def shape(self, done: float) -> float:
        """The factor, which changes from `start` to 1 and then to `end`."""
        if done < self.peak:
            return _half_cosine(self.start, 1.0, done / self.peak)
        return _half_cosine(1.0, self.end, (done - self.peak) / (1.0 - self.peak))


class Anneal:
    """The temperature of per-image convolutions: a linear change from `start` to `end`, then constant.

    Source: "Dynamic convolution for image classification" (Chen et al., CVPR 2020): 30 to 1 over the first 10 epochs.

    Args:
        start: Temperature of the first step, above 0.
        end: Temperature after `epochs`, above 0.
        epochs: Number of epochs over which the temperature changes; 0 for the temperature `end` from the first step.
    """

    def __init__(self, start: float = 30.0, end: float = 1.0, epochs: float = 10.0) -> None:
        self.start = start
        self.end = end
        self.epochs = epochs

    def __call__(self, step: int, clock: Clock) -> float:
        """The temperature for `step`, counted from 0."""
        done = min(1.0, clock.epoch(step) / self.epochs) if self.epochs else 1.0
        return self.start + (self.end - self.start) * done


def _half_cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * done))


def _check_factor(key: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(
            f"{key}={value} is out of range: give a fraction of the learning rate from 0 to 1 (schedule.{key})"
        )
    return value
