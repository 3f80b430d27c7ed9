"""Times that can be compared: warmed up, taken in turns, summed up by their median."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

_WARM_UPS = 2
_LEAST_SECONDS = 0.005  # of one measurement, below which a call is repeated within it


@dataclass(frozen=True)
class Times:
    """Seconds of one call, as measured in each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median; 0 for a single round."""
        if len(self.seconds) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (upper - lower) / 2 / self.median


def in_turns(
    calls: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, give_up: float = float("inf")
) -> dict[str, Times]:
    """Time some calls, one after the other, round after round, so that what else the machine does falls on all alike.

    Args:
        calls: by name; each is called a few times beforehand, and once before each measurement.
        device: on which they work; a GPU's own clock is read, and waited for once a measurement.
        rounds: measurements of each.
        give_up: a call that takes so many times as long as the fastest is measured no further than once.

    Returns:
        Name -> times, in the order of `calls`.
    """
    repeats, found = {}, {}
    for name, call in calls.items():
        for _ in range(_WARM_UPS):
            call()
        once = seconds(call, device)
        repeats[name] = max(1, round(_LEAST_SECONDS / max(once, 1e-9)))
        found[name] = [once]
    fastest = min(times[0] for times in found.values())
    worth_it = [name for name, times in found.items() if times[0] <= give_up * fastest]
    for name in worth_it:
        found[name] = []
    for _ in range(rounds):
        for name in worth_it:
            calls[name]()  # caches and heap as it leaves them itself, not as the one before it did
            found[name].append(seconds(calls[name], device, repeats[name]))
    return {name: Times(tuple(times)) for name, times in found.items()}


def seconds(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Time a call, the mean of so many in a row."""
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
