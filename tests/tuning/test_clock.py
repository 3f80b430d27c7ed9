"""Tests of interleaved timings."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from convbench.tuning import clock as clock_module
from convbench.tuning.clock import Times, seconds, time_interleaved

CPU = torch.device("cpu")


class FakeTime:
    """Replaces the module `time`; the calls of a test advance it, so that other load on the machine has no effect."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[str] = []

    def call(self, name: str, duration: float) -> Callable[[], None]:
        """A function that takes `duration` seconds and records its name."""

        def call() -> None:
            self.calls.append(name)
            self.now += duration

        return call


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    return fake


def test_calls_are_timed_in_interleaved_rounds(fake_time: FakeTime) -> None:
    times = time_interleaved({"short": fake_time.call("short", 0.006), "long": fake_time.call("long", 0.018)}, CPU, 3)
    assert list(times) == ["short", "long"]
    assert times["short"].seconds == pytest.approx([0.006] * 3)
    assert times["long"].seconds == pytest.approx([0.018] * 3)
    assert fake_time.calls[-12:] == ["short", "short", "long", "long"] * 3  # each is called once before it is timed


def test_a_call_that_is_much_slower_than_the_fastest_is_timed_once(fake_time: FakeTime) -> None:
    times = time_interleaved(
        {"fast": fake_time.call("fast", 0.005), "slow": fake_time.call("slow", 0.05)}, CPU, 5, give_up=3
    )
    assert [len(times[name].seconds) for name in ("fast", "slow")] == [5, 1]
    assert times["slow"].median == pytest.approx(0.05)


def test_a_short_call_is_repeated_within_a_measurement() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    time_interleaved({"short": call}, CPU, 2)
    assert calls > 1000


def test_seconds_is_the_mean_over_the_repeats(fake_time: FakeTime) -> None:
    assert seconds(fake_time.call("call", 0.002), CPU, repeats=3) == pytest.approx(0.002)
    assert len(fake_time.calls) == 3


def test_the_spread_is_half_the_interquartile_range_divided_by_the_median() -> None:
    assert Times((1.0, 2.0, 3.0, 4.0, 5.0)).median == 3
    assert Times((1.0, 2.0, 3.0, 4.0, 5.0)).spread == (4 - 2) / 2 / 3
    assert Times((7.0,)).spread == 0
