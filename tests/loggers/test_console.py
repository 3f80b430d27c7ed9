import logging
import re
import sys
from types import SimpleNamespace

import pytest

from convbench.loggers import console as console_module
from convbench.loggers.console import Console
from convbench.loggers.sink import StepSummary
from tests.loggers.rows import epoch_row, started


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="convbench")
    return caplog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the console, which shows the time `now` that a test sets."""
    fake = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(console_module, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


def right_edges(line: str) -> list[int]:
    return [match.end() for match in re.finditer(r"\S+", line)]


def step_summary(index: int) -> StepSummary:
    return StepSummary(index, images_seen=0, loss=1.23456, accuracy=0.5, lr=0.1, temperature=None)


@pytest.mark.parametrize("temperature", [None, 30.0], ids=["without", "with temperature"])
def test_rows_are_aligned_with_the_header_and_fit_80_columns(
    lines: pytest.LogCaptureFixture, temperature: float | None
) -> None:
    large = epoch_row(
        1000,
        train_loss=100.1234,
        train_accuracy=1.0,
        val_loss=100.1234,
        val_accuracy=1.0,
        lr=0.123456,
        temperature=temperature,
        seconds=10000.123,
        images_per_second=1234567.8,
    )
    small = epoch_row(1, temperature=None if temperature is None else 1.0)
    with started(Console(), has_temperature=temperature is not None) as console:
        console.on_epoch_end(small, images_seen=128, is_best=False)
        console.on_epoch_end(large, images_seen=128, is_best=True)
    *_, head, units, first, second = "\n".join(lines.messages).splitlines()
    assert head.split() == [
        "epoch", "train", "train", "val", "val", "lr", *(["temp."] if temperature else []), "time", "images/s",
    ]  # fmt: skip
    assert max(map(len, (head, units, first, second))) <= 80
    edges = right_edges(head)
    assert right_edges(first) == edges
    assert right_edges(second.removesuffix(" *")) == edges
    assert set(right_edges(units)) < set(edges)
    unit_at = dict(zip(right_edges(units), units.split(), strict=True))
    assert [unit_at.get(edge, "") for edge in edges] == [
        "", "loss", "%", "loss", "%", "", *([""] if temperature else []), "s", "",
    ]  # fmt: skip


def test_a_row_shows_accuracies_in_percent_and_an_asterisk_marks_the_best_epoch(
    lines: pytest.LogCaptureFixture,
) -> None:
    with Console() as console:
        console.on_epoch_end(epoch_row(3, temperature=12.345), images_seen=0, is_best=True)
        console.on_epoch_end(epoch_row(4, temperature=1.0), images_seen=0, is_best=False)
    first, second = lines.messages
    assert first.split() == ["3", "1.5000", "40.00", "1.2500", "50.00", "0.10000", "12.35", "2.00", "640", "*"]
    assert "*" not in second


def test_facts_are_printed_in_two_aligned_columns(lines: pytest.LogCaptureFixture) -> None:
    with started(Console(), facts={"data": "shapes", "folder": "outputs/runs/x"}):
        pass
    assert lines.messages[:2] == ["data    shapes", "folder  outputs/runs/x"]


def test_without_a_terminal_no_progress_bar_is_drawn(
    lines: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], clock: SimpleNamespace
) -> None:
    with started(Console()) as console:
        capsys.readouterr()
        lines.clear()
        console.on_epoch_start(1, epochs=2, first=0, steps=10)
        for index in range(1, 11):
            console.on_step()
            console.on_summary(step_summary(index))
        console.on_epoch_end(epoch_row(1), images_seen=0, is_best=False)
    captured = capsys.readouterr()
    (row,) = lines.messages
    assert captured.out + captured.err == f"{row}\n"


def test_without_a_terminal_a_long_epoch_prints_a_line_every_thirty_seconds(
    lines: pytest.LogCaptureFixture, clock: SimpleNamespace
) -> None:
    with Console() as console:
        console.on_epoch_start(2, epochs=3, first=0, steps=100)
        for index, seconds in ((10, 20), (20, 31), (30, 50), (40, 62)):
            clock.now = 1000.0 + seconds
            console.on_summary(step_summary(index))
    assert lines.messages == [
        "epoch 2, step 20 of 100: loss 1.235, 50.0 %",
        "epoch 2, step 40 of 100: loss 1.235, 50.0 %",
    ]


def test_on_a_terminal_the_progress_bar_shows_the_running_means(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Console() as console:
        console.on_epoch_start(1, epochs=2, first=4, steps=10)
        console.on_step()
        console.on_summary(step_summary(5))
    output = capsys.readouterr().err
    assert "epoch 1/2" in output
    assert "5/10" in output
    assert "loss 1.235, 50.0 %" in output
    assert lines.messages == []


def test_close_erases_the_progress_bar_of_an_interrupted_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Console() as console:
        console.on_epoch_start(1, epochs=2, first=0, steps=10)
        assert capsys.readouterr().err.rstrip(" ").endswith("step/s]")
    output = capsys.readouterr().err  # spaces that overwrite the bar, so that the next message begins on an empty line
    assert output.startswith("\r")
    assert output.strip() == ""
