"""The training loop: train an epoch, evaluate, report to the sinks and save a checkpoint."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from convbench.data.resident import EvalBatches, TrainBatches
from convbench.engine import checkpoint, distributed
from convbench.engine.interrupt import StopRequest
from convbench.engine.metrics import Score
from convbench.engine.scoring import evaluate
from convbench.engine.step import TrainStep
from convbench.loggers.sink import EpochRow, Sink, StepSummary
from convbench.run_folders.run_folder import RunFolder

_STOP_CHECK_INTERVAL = 8  # steps between two exchanges of stop requests, if several processes train together


@dataclass
class TrainingProgress:
    """The progress of a run, saved in its checkpoints.

    Attributes:
        epoch: Epoch of the next step, counted from 0.
        index: Index of the next step within its epoch, counted from 0.
        seconds: Time spent so far on the training steps of the epoch, in seconds.
        best: Epoch (counted from 1) and validation score of the best epoch so far.
    """

    epoch: int = 0
    index: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)


class DivergedError(RuntimeError):
    """A loss is infinite or not a number."""


def check_finite(loss: float, what: str, advice: str) -> None:
    """Check that a loss is a finite number.

    Args:
        loss: The loss.
        what: The name of the loss for the message, such as `training loss in epoch 3`.
        advice: The advice to the user at the end of the message.

    Raises:
        DivergedError: The loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"the {what} is {loss}; {advice}")


# Evaluation uses the running statistics of batch norm, so its loss can diverge although the training loss is finite.
EVALUATION_ADVICE = (
    "the weights or the running statistics of the normalisation layers have diverged, which a smaller optimizer.lr, "
    "a larger batch_size or a longer schedule.warmup_epochs may prevent"
)


class Trainer:
    """Trains a network for `step.clock.epochs` epochs.

    Args:
        step: The training step.
        train: Training batches.
        val: Validation batches.
        precision: Precision of the evaluation: `none`, `bf16` or `fp16`.
        folder: The run folder, for the checkpoints.
        log_every: Number of steps between two summaries. Each summary waits for the device.

    Attributes:
        progress: The next step and the best epoch so far.
        step_seconds: Mean time of a training step in the fastest epoch, in seconds. Only epochs that this process
            trained from their first step count; None before the first one.
        is_stop_requested: Whether a signal asked to stop during the last epoch. The run has finished then, but a sweep
            must not start further jobs.
    """

    def __init__(
        self,
        step: TrainStep,
        train: TrainBatches,
        val: EvalBatches,
        precision: str,
        folder: RunFolder,
        log_every: int,
    ) -> None:
        self.step = step
        self.train = train
        self.val = val
        self.precision = precision
        self.folder = folder
        self.log_every = log_every
        self.sinks: Sequence[Sink] = ()
        self.progress = TrainingProgress()
        self.step_seconds: float | None = None
        self.is_stop_requested = False

    def resume(self) -> None:
        """Restore the state from the last checkpoint of the run folder.

        Raises:
            UserError: The checkpoint does not exist or cannot be read.
        """
        state = checkpoint.load(self.folder.last_checkpoint, self.step.meter.sums.device)
        checkpoint.restore_training_state(self.step, state["training"])
        self.progress = TrainingProgress(**state["progress"])

    def fit(self, sinks: Sequence[Sink]) -> None:
        """Train from the step in `progress` to the last epoch.

        Args:
            sinks: The sinks that receive the events of the run.

        Raises:
            KeyboardInterrupt: A signal asked to stop, and the checkpoint is written.
            DivergedError: The training or the validation loss is infinite or not a number. The checkpoints are those of
                earlier epochs.
        """
        self.sinks = sinks
        progress, epochs = self.progress, self.step.clock.epochs
        with StopRequest() as stop:
            while progress.epoch < epochs:
                score = self._train_epoch(stop)
                distributed.average_buffers(self.step.network)  # all processes evaluate the network that is saved
                val = evaluate(self.step.network, self.val, self.precision).score
                check_finite(val.loss, f"validation loss after epoch {progress.epoch + 1}", EVALUATION_ADVICE)
                self._close_epoch(score, val)
                if distributed.any_process(stop.requested) and progress.epoch < epochs:
                    raise KeyboardInterrupt
            self.is_stop_requested = stop.requested

    def _train_epoch(self, stop: StopRequest) -> Score:
        progress, steps = self.progress, len(self.train)
        is_complete = progress.index == 0
        self.begin_epoch()
        start = time.perf_counter() - progress.seconds
        for batch, labels in self.train.epoch(progress.epoch, progress.index):
            self.train_step(batch, labels)
            if self._is_stop_requested(stop) and progress.index < steps:
                progress.seconds = time.perf_counter() - start
                self._save_last()
                raise KeyboardInterrupt
        score = self._read_finite()  # waits for the device, so that the time includes the last step
        progress.seconds = time.perf_counter() - start
        if is_complete:
            self.step_seconds = min(self.step_seconds or math.inf, progress.seconds / steps)
        return score

    def _is_stop_requested(self, stop: StopRequest) -> bool:
        """Whether to stop after this step.

        Several processes exchange their requests every `_STOP_CHECK_INTERVAL` steps, so that all stop after the same
        step.
        """
        if distributed.world_size() == 1:
            return stop.requested
        if self.progress.index % _STOP_CHECK_INTERVAL:
            return False
        # A checkpoint needs equal buffers. They are averaged even if the run does not stop, so that a resumed run is
        # bit-identical to an uninterrupted one.
        distributed.average_buffers(self.step.network)
        return distributed.any_process(stop.requested)

    def begin_epoch(self) -> None:
        """Report the start of the epoch in `progress` to the sinks, also if it is resumed in the middle."""
        progress, steps = self.progress, len(self.train)
        if progress.index == 0:
            self.step.meter.reset()
        for sink in self.sinks:
            sink.on_epoch_start(progress.epoch + 1, self.step.clock.epochs, progress.index, steps)

    def train_step(self, batch: Tensor, labels: Tensor) -> None:
        """Train on the next batch of the epoch, and report a summary every `log_every` steps."""
        progress, steps = self.progress, len(self.train)
        self.step(progress.epoch * steps + progress.index, batch, labels)
        progress.index += 1
        for sink in self.sinks:
            sink.on_step()
        if progress.index % self.log_every == 0 and progress.index < steps:
            self._summarise()

    def _summarise(self) -> None:
        score = self._read_finite()
        summary = StepSummary(
            self.progress.index, self.images_seen, score.loss, score.accuracy, self.step.lr, self.step.temperature
        )
        for sink in self.sinks:
            sink.on_summary(summary)

    def _close_epoch(self, train: Score, val: Score) -> None:
        progress, steps, seconds = self.progress, len(self.train), self.progress.seconds
        progress.epoch, progress.index, progress.seconds = progress.epoch + 1, 0, 0.0
        row = EpochRow(
            epoch=progress.epoch,
            step=progress.epoch * steps,
            train_loss=train.loss,
            train_accuracy=train.accuracy,
            val_loss=val.loss,
            val_accuracy=val.accuracy,
            lr=self.step.lr,
            temperature=self.step.temperature,
            seconds=seconds,
            images_per_second=steps * self.train.batch_size / seconds,
        )
        is_best = not progress.best or val.accuracy > progress.best["val"]["accuracy"]
        if is_best:
            progress.best = {"epoch": row.epoch, "val": val._asdict()}
            self._save({"network": self.step.network.state_dict(), **progress.best}, self.folder.best_checkpoint)
        for sink in self.sinks:
            sink.on_epoch_end(row, self.images_seen, is_best)
        # The checkpoint comes after the sinks: a run that is killed between them repeats the epoch and keeps its row.
        self._save_last()

    def _save_last(self) -> None:
        state = {"training": checkpoint.training_state(self.step), "progress": asdict(self.progress)}
        self._save(state, self.folder.last_checkpoint)

    def _save(self, state: dict[str, Any], path: Path) -> None:
        if distributed.rank() == 0:
            checkpoint.save(state, path)

    def _read_finite(self) -> Score:
        score = self.step.meter.read()
        advice = "a smaller optimizer.lr or a longer schedule.warmup_epochs may help"
        check_finite(score.loss, f"training loss in epoch {self.progress.epoch + 1}", advice)
        return score

    @property
    def images_seen(self) -> int:
        """Number of training images since the start of the run, over all processes."""
        return (self.progress.epoch * len(self.train) + self.progress.index) * self.train.batch_size
