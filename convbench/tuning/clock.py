"""Comparable timings: interleaved measurements after a warmup, summarised by their median."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

_WARMUP_CALLS = 2
_MIN_SECONDS = 0.005  # minimum length of a measurement; shorter calls are repeated within it


@dataclass(frozen=True)
class Times:
    """Times of a call.

    Attributes:
        seconds: Time of one call in each round, in seconds.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median time, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the interquartile range divided by the median; 0 for a single round."""
        if len(self.seconds) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (upper - lower) / 2 / self.median


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, give_up: float = float("inf")
) -> dict[str, Times]:
    """Time several calls in interleaved rounds, so that other load on the machine affects all of them alike.

    Args:
        calls: Calls by name. Each is called a few times as a warmup, and once before each measurement.
        device: The device of the calls. On a GPU, CUDA events are timed, with one synchronization per measurement.
        rounds: Number of measurements of each call.
        give_up: A call that takes more than `give_up` times as long as the fastest is measured only once.

    Returns:
        Name -> times, in the order of `calls`.
    """
    repeats, measured = {}, {}
    for name, call in calls.items():
        for _ in range(_WARMUP_CALLS):
            call()
        once = seconds(call, device)
        repeats[name] = max(1, round(_MIN_SECONDS / max(once, 1e-9)))
        measured[name] = [once]
    fastest = min(times[0] for times in measured.values())
    candidates = [name for name, times in measured.items() if times[0] <= give_up * fastest]
    for name in candidates:
        measured[name] = []
    for _ in range(rounds):
        for name in candidates:
            calls[name]()  # the caches and the heap are left by this call, not by the previous candidate
            measured[name].append(seconds(calls[name], device, repeats[name]))
    return {name: Times(tuple(times)) for name, times in measured.items()}


def seconds(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """The mean time of `repeats` calls in a row, in seconds."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / repeats
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats
