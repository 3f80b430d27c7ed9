"""The loop over epochs: train, evaluate, report, save."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from convbench.data.resident import EvalBatches, TrainBatches
from convbench.engine import checkpoint, distributed
from convbench.engine.evaluation import evaluate
from convbench.engine.interrupt import StopRequest
from convbench.engine.metrics import Score
from convbench.engine.step import TrainStep
from convbench.loggers.sink import EpochRow, Sink, StepSummary
from convbench.run_folders.folder import RunFolder

_STEPS_BETWEEN_QUESTIONS = 8


@dataclass
class TrainingProgress:
    """Where a run stands; saved in its checkpoints.

    Attributes:
        epoch, index: the next step, epoch from 0 and step within it.
        seconds: spent so far on the training steps of the epoch.
        best: epoch (from 1) and validation score of the best epoch so far.
    """

    epoch: int = 0
    index: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)


class DivergedError(RuntimeError):
    """A loss is no longer a finite number."""


def check_finite(loss: float, what: str, advice: str) -> None:
    """Stop a run whose loss says nothing any more.

    Args:
        loss: the loss.
        what: which loss it is, `training loss in epoch 3`.
        advice: what may help.

    Raises:
        DivergedError: if it is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"the {what} is {loss}; {advice}")


# The loss of a split that is not trained on can fail alone: it is computed with the running statistics of batch norm.
EVALUATION_ADVICE = (
    "the weights or the running statistics of the normalisation layers have diverged, which a smaller optimizer.lr, "
    "a larger batch_size or a longer schedule.warmup_epochs may prevent"
)


class Trainer:
    """Trains for `step.clock.epochs` epochs.

    Args:
        step: one training step.
        train: training batches.
        val: validation batches.
        precision: in which to evaluate.
        folder: of the run, for checkpoints.
        log_every: steps between two looks, which wait for the device.

    Attributes:
        step_seconds: of a training step, in the fastest epoch that this process trained as a whole; None before.
        is_stopped: whether a signal came so late that the run ended by itself; others may have to end for it.
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
        self.is_stopped = False

    def resume(self) -> None:
        """Go on from the last checkpoint of the folder.

        Raises:
            UserError: if there is none.
        """
        state = checkpoint.load(self.folder.last_checkpoint, self.step.meter.sums.device)
        checkpoint.restore_training_state(self.step, state["training"])
        self.progress = TrainingProgress(**state["progress"])

    def fit(self, sinks: Sequence[Sink]) -> None:
        """Train from where `progress` stands to the end.

        Args:
            sinks: hear of epochs, steps and looks.

        Raises:
            KeyboardInterrupt: after a signal; the checkpoint is written.
            DivergedError: if the training or the validation loss is infinite or not a number; the checkpoints are those
                of the epochs before.
        """
        self.sinks = sinks
        progress, epochs = self.progress, self.step.clock.epochs
        with StopRequest() as stop:
            while progress.epoch < epochs:
                score = self._train_epoch(stop)
                distributed.average_buffers(self.step.network)  # one network is evaluated, saved and tested
                val = evaluate(self.step.network, self.val, self.precision).score
                check_finite(val.loss, f"validation loss after epoch {progress.epoch + 1}", EVALUATION_ADVICE)
                self._close_epoch(score, val)
                if distributed.any_process(stop.requested) and progress.epoch < epochs:
                    raise KeyboardInterrupt
            self.is_stopped = stop.requested

    def _train_epoch(self, stop: StopRequest) -> Score:
        progress, steps = self.progress, len(self.train)
        is_whole = progress.index == 0
        self.begin_epoch()
        start = time.perf_counter() - progress.seconds
        for batch, labels in self.train.epoch(progress.epoch, progress.index):
            self.train_step(batch, labels)
            if self._is_asked_to_stop(stop) and progress.index < steps:
                progress.seconds = time.perf_counter() - start
                self._save_last()
                raise KeyboardInterrupt
        score = self._read_finite()  # waits for the device, so that its last step is in the time
        progress.seconds = time.perf_counter() - start
        if is_whole:
            self.step_seconds = min(self.step_seconds or math.inf, progress.seconds / steps)
        return score

    def _is_asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether to stop after this step; several processes ask each other now and then, so that all stop at one."""
        if distributed.world_size() == 1:
            return stop.requested
        if self.progress.index % _STEPS_BETWEEN_QUESTIONS:
            return False
        # Whether they stop or not: a run that is interrupted and goes on must come to the same bits as one that is not.
        distributed.average_buffers(self.step.network)
        return distributed.any_process(stop.requested)

    def begin_epoch(self) -> None:
        """Tell sinks of the epoch in which `progress` stands."""
        progress, steps = self.progress, len(self.train)
        if progress.index == 0:
            self.step.meter.reset()
        for sink in self.sinks:
            sink.on_epoch_start(progress.epoch + 1, self.step.clock.epochs, progress.index, steps)

    def train_step(self, batch: Tensor, labels: Tensor) -> None:
        """Train on the next batch of the epoch, and now and then look at how it goes."""
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
        # Last, so that a run killed in between repeats the epoch rather than losing its row.
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
        """Training images since the start of the run."""
        return (self.progress.epoch * len(self.train) + self.progress.index) * self.train.batch_size
