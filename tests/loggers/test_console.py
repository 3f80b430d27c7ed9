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
    """A clock of the console that stands still until a test moves it."""
    hand = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(console_module, "time", SimpleNamespace(monotonic=lambda: hand.now))
    return hand


def right_edges(line: str) -> list[int]:
    return [match.end() for match in re.finditer(r"\S+", line)]


def look(index: int) -> StepSummary:
    return StepSummary(index, images_seen=0, loss=1.23456, accuracy=0.5, lr=0.1, temperature=None)


@pytest.mark.parametrize("temperature", [None, 30.0], ids=["without", "with temperature"])
def test_rows_are_aligned_with_the_head_and_fit_80_columns(
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
    of_unit = dict(zip(right_edges(units), units.split(), strict=True))
    assert [of_unit.get(edge, "") for edge in edges] == [
        "", "loss", "%", "loss", "%", "", *([""] if temperature else []), "s", "",
    ]  # fmt: skip


def test_a_row_tells_the_epoch_in_percent_and_a_star_marks_the_best(lines: pytest.LogCaptureFixture) -> None:
    with Console() as console:
        console.on_epoch_end(epoch_row(3, temperature=12.345), images_seen=0, is_best=True)
        console.on_epoch_end(epoch_row(4, temperature=1.0), images_seen=0, is_best=False)
    first, second = lines.messages
    assert first.split() == ["3", "1.5000", "40.00", "1.2500", "50.00", "0.10000", "12.35", "2.00", "640", "*"]
    assert "*" not in second


def test_facts_stand_under_each_other(lines: pytest.LogCaptureFixture) -> None:
    with started(Console(), facts={"data": "shapes", "folder": "outputs/runs/x"}):
        pass
    assert lines.messages[:2] == ["data    shapes", "folder  outputs/runs/x"]


def test_off_a_terminal_no_bar_is_drawn(
    lines: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], clock: SimpleNamespace
) -> None:
    with started(Console()) as console:
        capsys.readouterr()
        lines.clear()
        console.on_epoch_start(1, epochs=2, first=0, steps=10)
        for index in range(1, 11):
            console.on_step()
            console.on_summary(look(index))
        console.on_epoch_end(epoch_row(1), images_seen=0, is_best=False)
    said = capsys.readouterr()
    (row,) = lines.messages
    assert said.out + said.err == f"{row}\n"


def test_off_a_terminal_a_long_epoch_gives_a_line_now_and_then(
    lines: pytest.LogCaptureFixture, clock: SimpleNamespace
) -> None:
    with Console() as console:
        console.on_epoch_start(2, epochs=3, first=0, steps=100)
        for index, seconds in ((10, 20), (20, 31), (30, 50), (40, 62)):
            clock.now = 1000.0 + seconds
            console.on_summary(look(index))
    assert lines.messages == [
        "epoch 2, step 20 of 100: loss 1.235, 50.0 %",
        "epoch 2, step 40 of 100: loss 1.235, 50.0 %",
    ]


def test_on_a_terminal_the_bar_shows_the_running_means(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Console() as console:
        console.on_epoch_start(1, epochs=2, first=4, steps=10)
        console.on_step()
        console.on_summary(look(5))
    said = capsys.readouterr().err
    assert "epoch 1/2" in said
    assert "5/10" in said
    assert "loss 1.235, 50.0 %" in said
    assert lines.messages == []


def test_the_bar_of_an_interrupted_epoch_is_wiped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Console() as console:
        console.on_epoch_start(1, epochs=2, first=0, steps=10)
        assert capsys.readouterr().err.rstrip(" ").endswith("step/s]")
    wiped = capsys.readouterr().err  # blanks over the bar, so that the next message has the line for itself
    assert wiped.startswith("\r")
    assert wiped.strip() == ""
