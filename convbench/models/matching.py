"""Find the widths, and if necessary the depth, for which a network has a given number of parameters or operations.

A convolution with six times fewer weights may give a lower accuracy because the method is worse, or because it has
fewer weights. A comparison of networks of the same cost excludes the second reason.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from convbench.errors import UserError

TOLERANCE = 0.02  # largest relative difference from the target
_STEPS = (1, 2, 4, 8, 16, 32, 64)  # widths are multiples of a step, because grouped convolutions need divisible widths
_MAX_DEPTH_CHANGE = 24


@dataclass(frozen=True)
class Candidate:
    """The cost of one network of the search.

    Attributes:
        cost: Number of parameters or multiply-accumulate operations.
        swapped: Names of the replaced convolutions.
    """

    cost: int
    swapped: frozenset[str]


def match_budget(
    measure: Callable[..., Candidate], target: int, widths: Sequence[int], depth: int | None = None
) -> dict[str, Any]:
    """Search the widths and the depth for which the cost of a network is within 2 % of a target.

    For each depth, starting with the given one, the search scales all widths by a common factor, then changes single
    widths. A candidate is valid only if the same convolutions are replaced in it as in the network with the given
    widths: a convolution type may refuse layers of some widths, and such layers would keep their original convolutions.

    Args:
        measure: Callable that returns a `Candidate` for the keyword arguments `widths` and, unless it is None, `depth`.
            It raises `UserError` if the network cannot be built.
        target: The target cost.
        widths: Number of channels of each stage of the original network.
        depth: Depth of the original network; None if the network has no such argument.

    Returns:
        The arguments of the network: `widths` and, unless it is None, `depth`.

    Raises:
        UserError: The cost of no candidate is within 2 % of the target. The message names the closest candidate.
    """
    search = _Search(measure, target, tuple(widths), depth)
    for candidate_depth in _depths(depth):
        for step in _STEPS:
            any_invalid = search.scale(candidate_depth, step)
            if search.best_error <= TOLERANCE:
                return search.best
            if not any_invalid:
                break  # all multiples of coarser steps have been valid candidates already
        search.tune(candidate_depth)
        if search.best_error <= TOLERANCE:
            return search.best
    closest = ", ".join(f"model.{key}={str(value).replace(' ', '')}" for key, value in search.best.items())
    raise UserError(
        f"no widths or depth give a number of parameters or MACs within {TOLERANCE:.0%} of the budget of {target:,}; "
        f"the closest is {closest} with {search.best_cost:,}: choose another model.depth or model.widths, or give "
        "model.match=null (model.match)"
    )


def _depths(depth: int | None) -> Iterator[int | None]:
    """Yield the given depth, then other depths in the order of their distance from it."""
    yield depth
    if depth is not None:
        for change in range(1, _MAX_DEPTH_CHANGE + 1):
            yield from (depth + change, depth - change)


class _Search:
    """The candidates so far, and the best of them."""

    def __init__(
        self, measure: Callable[..., Candidate], target: int, widths: tuple[int, ...], depth: int | None
    ) -> None:
        self.measure = measure
        self.target = target
        self.widths = widths
        self.candidates: dict[tuple[int | None, tuple[int, ...]], Candidate | None] = {}
        self.best: dict[str, Any] = _arguments(depth, widths)
        self.best_error = float("inf")
        self.best_cost = 0
        self._update_best(depth, widths)

    def scale(self, depth: int | None, step: int) -> bool:
        """Find the common factor of all widths by bisection, with widths rounded to multiples of `step`.

        Returns:
            Whether any candidate was invalid.
        """
        low, high, any_invalid = 1 / 64, 64.0, False
        for _ in range(16):
            factor = (low * high) ** 0.5
            widths = tuple(max(step, round(width * factor / step) * step) for width in self.widths)
            candidate = self._candidate(depth, widths)
            any_invalid |= not self._update_best(depth, widths)
            if candidate is None:
                return True
            low, high = (factor, high) if candidate.cost < self.target else (low, factor)
        return any_invalid

    def tune(self, depth: int | None) -> None:
        """Change one width at a time, starting from the best candidate if it has this depth, while the error falls."""
        previous_error = float("inf")
        while self.best.get("depth") == depth and TOLERANCE < self.best_error < previous_error:
            previous_error, widths = self.best_error, tuple(self.best["widths"])
            for index, width in enumerate(widths):
                for change in (change for step in _STEPS for change in (-step, step) if width + change > 0):
                    self._update_best(depth, (*widths[:index], width + change, *widths[index + 1 :]))

    def _update_best(self, depth: int | None, widths: tuple[int, ...]) -> bool:
        """Keep a candidate if it is valid and better than all others; return whether it is valid."""
        candidate, original = self._candidate(depth, widths), self._candidate(depth, self.widths)
        if candidate is None or original is None or candidate.swapped != original.swapped:
            return False
        error = abs(candidate.cost / self.target - 1)
        if error < self.best_error:
            self.best, self.best_error, self.best_cost = _arguments(depth, widths), error, candidate.cost
        return True

    def _candidate(self, depth: int | None, widths: tuple[int, ...]) -> Candidate | None:
        """Return the candidate, measured at the first call, or None if the network cannot be built."""
        if (depth, widths) not in self.candidates:
            try:
                self.candidates[depth, widths] = self.measure(**_arguments(depth, widths))
            except UserError:
                self.candidates[depth, widths] = None
        return self.candidates[depth, widths]


def _arguments(depth: int | None, widths: tuple[int, ...]) -> dict[str, Any]:
    return {"widths": list(widths)} | ({} if depth is None else {"depth": depth})
