"""The clock: in turns, by the median, and no longer than a hopeless candidate deserves."""

import time

import torch

from convbench.tuning.clock import Times, in_turns, seconds

CPU = torch.device("cpu")


def test_calls_are_timed_in_turns_and_told_apart() -> None:
    order: list[str] = []

    def call(name: str, pause: float) -> None:
        order.append(name)
        time.sleep(pause)

    times = in_turns({"short": lambda: call("short", 0.006), "long": lambda: call("long", 0.018)}, CPU, 3)
    assert list(times) == ["short", "long"]
    assert 2 < times["long"].median / times["short"].median < 4
    assert order[-12:] == ["short", "short", "long", "long"] * 3  # each once more before it is timed


def test_what_takes_far_longer_than_the_fastest_is_timed_once() -> None:
    times = in_turns({"fast": lambda: time.sleep(0.005), "slow": lambda: time.sleep(0.05)}, CPU, 5, give_up=3)
    assert [len(times[name].seconds) for name in ("fast", "slow")] == [5, 1]


def test_a_short_call_is_repeated_within_a_measurement() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    in_turns({"short": call}, CPU, 2)
    assert calls > 1000


def test_one_call_is_as_long_as_the_mean_of_its_repeats() -> None:
    assert 0.002 <= seconds(lambda: time.sleep(0.002), CPU, repeats=3) < 0.02


def test_the_spread_is_half_the_distance_of_the_quartiles_as_a_share_of_the_median() -> None:
    assert Times((1.0, 2.0, 3.0, 4.0, 5.0)).median == 3
    assert Times((1.0, 2.0, 3.0, 4.0, 5.0)).spread == (4 - 2) / 2 / 3
    assert Times((7.0,)).spread == 0
