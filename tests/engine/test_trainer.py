"""Tests of the training loop: its events, checkpoints, interruptions, resumption and measurements."""

import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convbench.engine import checkpoint
from convbench.engine import trainer as trainer_module
from convbench.engine.metrics import SplitScore
from convbench.engine.trainer import DivergedError, Trainer
from convbench.errors import UserError
from convbench.loggers.sink import EpochRow, Sink, StepSummary
from convbench.run_folders.run_folder import RunFolder
from tests.engine.test_step import build

CPU = torch.device("cpu")
STEPS, BATCH_SIZE = 4, 16  # of the 64 training images in TINY


def make_trainer(folder: Path, *overrides: str, log_every: int = 100) -> Trainer:
    training = build(*overrides)
    return Trainer(training.step, training.train, training.evaluation("val"), "none", RunFolder(folder), log_every)


def make_interrupted_trainer(folder: Path, after: int) -> Trainer:
    """Interrupt a run of two epochs after `after` steps, and resume it in a new trainer."""
    interrupted = make_trainer(folder)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit([AtStep(after, lambda: signal.raise_signal(signal.SIGINT))])
    resumed = make_trainer(folder)
    resumed.resume()
    return resumed


def saved_progress(folder: Path) -> dict[str, Any]:
    return checkpoint.load(RunFolder(folder).last_checkpoint, CPU)["progress"]


class Recorder(Sink):
    """Records the events of a run as tuples."""

    def __init__(self, events: list[tuple[Any, ...]] | None = None, name: str = "") -> None:
        self.events = [] if events is None else events
        self.name = (name,) if name else ()
        self.rows: list[EpochRow] = []

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        self.events.append((*self.name, "epoch start", epoch, epochs, first, steps))

    def on_step(self) -> None:
        self.events.append((*self.name, "step"))

    def on_summary(self, summary: StepSummary) -> None:
        self.events.append((*self.name, "summary", summary.index, summary.images_seen))

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        self.rows.append(row)
        self.events.append((*self.name, "epoch end", row.epoch, row.step, images_seen))


class AtStep(Sink):
    """Calls a function after step number `number`, counted from 1 over all epochs that the sink receives."""

    def __init__(self, number: int, call: Callable[[], object]) -> None:
        self.remaining = number
        self.call = call

    def on_step(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self.call()


# -- events -----------------------------------------------------------------------------------------------------------


def test_sinks_receive_the_events_of_each_epoch_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    make_trainer(tmp_path, log_every=2).fit([recorder])
    step = ("step",)
    assert recorder.events == [
        *[("epoch start", 1, 2, 0, 4), step, step, ("summary", 2, 32), step, step, ("epoch end", 1, 4, 64)],
        *[("epoch start", 2, 2, 0, 4), step, step, ("summary", 2, 96), step, step, ("epoch end", 2, 8, 128)],
    ]


def test_each_event_is_sent_to_all_sinks_in_their_order(tmp_path: Path) -> None:
    events: list[tuple[Any, ...]] = []
    make_trainer(tmp_path, "epochs=1", log_every=3).fit([Recorder(events, "first"), Recorder(events, "second")])
    first, second = events[::2], events[1::2]
    assert {event[0] for event in first} == {"first"}
    assert second == [("second", *event[1:]) for event in first]


def test_a_row_contains_the_means_of_its_own_epoch(tmp_path: Path) -> None:
    trainer, recorder = make_trainer(tmp_path, "optimizer.lr=1e-9", "model.dropout=0"), Recorder()
    losses: list[float] = []
    criterion = trainer.step.criterion

    def recording_criterion(logits: Tensor, labels: Tensor) -> Tensor:
        loss = criterion(logits, labels)
        losses.append(loss.item())
        return loss

    trainer.step.criterion = recording_criterion
    trainer.fit([recorder])
    for row, epoch_losses in zip(recorder.rows, (losses[:STEPS], losses[STEPS:]), strict=True):
        assert row.train_loss == pytest.approx(sum(epoch_losses) / STEPS)
    assert recorder.rows[0].train_loss != recorder.rows[1].train_loss


def test_an_epoch_is_the_best_only_if_its_accuracy_is_higher_than_all_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.25, 0.5, 0.5, 0.25])

    def evaluate(*_: object) -> SplitScore:
        accuracy = next(accuracies)
        return SplitScore(1.0, accuracy, int(20 * accuracy), 20, 2)

    flags: list[bool] = []

    class BestEpochs(Sink):
        def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
            flags.append(is_best)

    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    trainer = make_trainer(tmp_path, "epochs=4")
    trainer.fit([BestEpochs()])
    assert flags == [True, True, False, False]
    assert trainer.progress.best == {"epoch": 2, "val": {"loss": 1.0, "accuracy": 0.5}}
    best = checkpoint.load(trainer.folder.best_checkpoint, CPU)
    assert best["epoch"] == 2
    weights = trainer.step.network.state_dict()
    assert any(not torch.equal(value, weights[name]) for name, value in best["network"].items())


def test_the_last_checkpoint_is_written_after_the_sinks_have_received_the_row(tmp_path: Path) -> None:
    saved_epochs: list[int] = []

    class SavedEpochs(Sink):
        def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
            is_saved = RunFolder(tmp_path).last_checkpoint.exists()
            saved_epochs.append(saved_progress(tmp_path)["epoch"] if is_saved else 0)

    make_trainer(tmp_path).fit([SavedEpochs()])
    assert saved_epochs == [0, 1]
    assert saved_progress(tmp_path)["epoch"] == 2


# -- interruption and resumption --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "epoch", "index"), [(2, 0, 2), (STEPS, 1, 0), (STEPS + 3, 1, 3)], ids=["epoch 1", "between", "epoch 2"]
)
def test_a_resumed_trainer_continues_with_the_next_step(tmp_path: Path, after: int, epoch: int, index: int) -> None:
    trainer, recorder = make_interrupted_trainer(tmp_path, after), Recorder()
    assert (trainer.progress.epoch, trainer.progress.index) == (epoch, index)
    assert trainer.images_seen == after * BATCH_SIZE
    trainer.fit([recorder])
    assert recorder.events[0] == ("epoch start", epoch + 1, 2, index, STEPS)
    assert recorder.events.count(("step",)) == 2 * STEPS - after
    assert recorder.events[-1] == ("epoch end", 2, 2 * STEPS, 2 * STEPS * BATCH_SIZE)


@pytest.mark.parametrize("after", [2, STEPS])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_run(tmp_path: Path, after: int) -> None:
    uninterrupted, expected = make_trainer(tmp_path / "uninterrupted"), Recorder()
    uninterrupted.fit([expected])
    resumed, recorder = make_interrupted_trainer(tmp_path / "interrupted", after), Recorder()
    resumed.fit([recorder])
    for name, value in uninterrupted.step.network.state_dict().items():
        assert torch.equal(value, resumed.step.network.state_dict()[name]), name
    expected_row, row = expected.rows[-1], recorder.rows[-1]
    assert (row.train_loss, row.val_loss, row.lr) == (expected_row.train_loss, expected_row.val_loss, expected_row.lr)


def test_a_finished_run_has_no_further_steps_after_it_is_resumed(tmp_path: Path) -> None:
    make_trainer(tmp_path, "epochs=1").fit([])
    trainer, recorder = make_trainer(tmp_path, "epochs=1"), Recorder()
    trainer.resume()
    trainer.fit([recorder])
    assert recorder.events == []


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="checkpoint"):
        make_trainer(tmp_path).resume()


@pytest.mark.parametrize(
    ("after", "is_stop_requested"), [(100, False), (2 * STEPS, True)], ids=["no signal", "last step"]
)
def test_a_signal_in_the_last_step_finishes_the_run_and_sets_is_stopped(
    tmp_path: Path, after: int, is_stop_requested: bool
) -> None:
    trainer = make_trainer(tmp_path)
    trainer.fit([AtStep(after, lambda: signal.raise_signal(signal.SIGTERM))])
    assert trainer.is_stop_requested is is_stop_requested
    assert saved_progress(tmp_path)["epoch"] == 2


# -- divergence -------------------------------------------------------------------------------------------------------


def spoil_training_loss(trainer: Trainer, value: float) -> None:
    criterion = trainer.step.criterion
    trainer.step.criterion = lambda logits, labels: criterion(logits, labels) + value


def spoil_running_statistics(trainer: Trainer, value: float) -> None:
    """Make the evaluation diverge; training normalises by the statistics of the batch."""
    for module in trainer.step.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(value)


@pytest.mark.parametrize(
    ("spoil", "value", "loss"),
    [
        (spoil_training_loss, math.nan, "training loss"),
        (spoil_training_loss, math.inf, "training loss"),
        (spoil_running_statistics, math.nan, "validation loss"),
    ],
)
def test_a_loss_that_is_not_finite_raises_an_error_before_the_first_checkpoint(
    tmp_path: Path, spoil: Callable[[Trainer, float], None], value: float, loss: str
) -> None:
    trainer, recorder = make_trainer(tmp_path), Recorder()
    with pytest.raises(DivergedError, match=loss):
        trainer.fit([recorder, AtStep(2, lambda: spoil(trainer, value))])
    assert recorder.rows == []
    assert not trainer.folder.last_checkpoint.exists()
    assert not trainer.folder.best_checkpoint.exists()


@pytest.mark.parametrize("spoil", [spoil_training_loss, spoil_running_statistics])
def test_a_divergence_keeps_the_checkpoint_of_the_epoch_before(
    tmp_path: Path, spoil: Callable[[Trainer, float], None]
) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(DivergedError, match="epoch 2"):
        trainer.fit([AtStep(STEPS + 1, lambda: spoil(trainer, math.nan))])
    state = checkpoint.load(trainer.folder.last_checkpoint, CPU)
    assert (state["progress"]["epoch"], state["progress"]["index"]) == (1, 0)
    weights = [
        *state["training"]["network"].values(),
        *checkpoint.load(trainer.folder.best_checkpoint, CPU)["network"].values(),
    ]
    assert all(torch.isfinite(value).all() for value in weights)


def test_a_summary_raises_the_error_within_the_epoch(tmp_path: Path) -> None:
    trainer, recorder = make_trainer(tmp_path, log_every=2), Recorder()
    spoil_training_loss(trainer, math.nan)
    with pytest.raises(DivergedError, match="epoch 1"):
        trainer.fit([recorder])
    assert recorder.events == [("epoch start", 1, 2, 0, STEPS), ("step",), ("step",)]


# -- measurements -----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the trainer, which shows the time `now` that a test sets."""
    fake = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    return fake


class SlowSteps(Sink):
    """Advances the clock at each step, by the given seconds for each epoch."""

    def __init__(self, clock: SimpleNamespace, seconds: dict[int, float]) -> None:
        self.clock = clock
        self.seconds = seconds

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        self.epoch = epoch

    def on_step(self) -> None:
        self.clock.now += self.seconds[self.epoch]


def test_step_seconds_is_the_mean_time_of_a_step_in_the_fastest_epoch(tmp_path: Path, clock: SimpleNamespace) -> None:
    trainer, recorder = make_trainer(tmp_path, "epochs=3"), Recorder()

    def advance_in_evaluation(network: nn.Module, *_: object) -> None:
        clock.now += 0.0 if network.training else 100.0

    trainer.step.network.register_forward_hook(advance_in_evaluation)
    assert trainer.step_seconds is None
    trainer.fit([recorder, SlowSteps(clock, {1: 3.0, 2: 2.0, 3: 5.0})])
    assert trainer.step_seconds == 2.0
    assert [row.seconds for row in recorder.rows] == [12.0, 8.0, 20.0]  # without the evaluation
    assert [row.images_per_second for row in recorder.rows] == [64 / 12, 64 / 8, 64 / 20]


def test_the_time_of_a_resumed_epoch_includes_its_steps_before_the_interruption_but_not_step_seconds(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    interrupted = make_trainer(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit([SlowSteps(clock, {1: 1.0}), AtStep(3, lambda: signal.raise_signal(signal.SIGINT))])
    assert interrupted.step_seconds is None
    clock.now += 500.0  # the time until the run is resumed does not count
    trainer, recorder = make_trainer(tmp_path), Recorder()
    trainer.resume()
    trainer.fit([recorder, SlowSteps(clock, {1: 1.0, 2: 5.0})])
    assert [row.seconds for row in recorder.rows] == [4.0, 20.0]
    assert trainer.step_seconds == 5.0


def test_images_seen_counts_the_images_of_all_steps(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "epochs=1")
    assert trainer.images_seen == 0
    counts: list[int] = []

    class Counts(Sink):
        def on_step(self) -> None:
            counts.append(trainer.images_seen)

    trainer.fit([Counts()])
    assert counts == [16, 32, 48, 64]
    assert trainer.images_seen == 64
