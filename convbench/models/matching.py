"""Find the width, and if need be the depth, at which a network costs as much as another one.

A convolution with six times fewer weights may lose because it is a worse idea or because it has fewer weights. With the
budget of the network it is compared with, only the idea is left.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from convbench.errors import UserError

TOLERANCE = 0.02
_STEPS = (1, 2, 4, 8, 16, 32, 64)  # widths are multiples of one of them: a conv with groups takes no others
_DEPTHS_AWAY = 24


@dataclass(frozen=True)
class Candidate:
    """A network that was tried.

    Attributes:
        cost: its parameters or multiply-accumulate operations.
        swapped: names of the convolutions that were swapped in it.
    """

    cost: int
    swapped: frozenset[str]


def match_budget(
    measure: Callable[..., Candidate], target: int, widths: Sequence[int], depth: int | None = None
) -> dict[str, Any]:
    """Scale all widths alike, then single ones, then change the depth, until the cost is within 2 % of the target.

    A candidate counts only if the same convolutions are swapped in it as in the unscaled network: a width that a
    conv type refuses would otherwise bring the old convolutions back.

    Args:
        measure: takes `widths`, and `depth` unless that is None; raises `UserError` for what cannot be built.
        target: the cost to come to.
        widths: channels of each stage of the unscaled network.
        depth: of the unscaled network; None if the network has no such argument.

    Returns:
        The arguments of the network: `widths`, and `depth` unless that is None.

    Raises:
        UserError: if nothing tried comes within 2 %; names what came nearest.
    """
    search = _Search(measure, target, tuple(widths), depth)
    for at_depth in _depths(depth):
        for step in _STEPS:
            any_refused = search.scale(at_depth, step)
            if search.best_error <= TOLERANCE:
                return search.best
            if not any_refused:
                break  # coarser steps would find nothing that this one has not
        search.tune(at_depth)
        if search.best_error <= TOLERANCE:
            return search.best
    nearest = ", ".join(f"model.{key}={str(value).replace(' ', '')}" for key, value in search.best.items())
    raise UserError(
        f"no width or depth comes within {TOLERANCE:.0%} of the budget of {target:,}; nearest is {nearest} with "
        f"{search.best_cost:,}: give another model.depth or model.widths, or leave model.match away (model.match)"
    )


def _depths(depth: int | None) -> Iterator[int | None]:
    yield depth
    if depth is not None:
        for away in range(1, _DEPTHS_AWAY + 1):
            yield from (depth + away, depth - away)


class _Search:
    """What has been tried, and the best of it."""

    def __init__(
        self, measure: Callable[..., Candidate], target: int, widths: tuple[int, ...], depth: int | None
    ) -> None:
        self.measure = measure
        self.target = target
        self.widths = widths
        self.tried: dict[tuple[int | None, tuple[int, ...]], Candidate | None] = {}
        self.best: dict[str, Any] = _arguments(depth, widths)
        self.best_error = float("inf")
        self.best_cost = 0
        self._consider(depth, widths)

    def scale(self, depth: int | None, step: int) -> bool:
        """Bisect the factor of all widths, rounded to multiples of `step`; say whether any candidate was refused."""
        low, high, any_refused = 1 / 64, 64.0, False
        for _ in range(16):
            factor = (low * high) ** 0.5
            widths = tuple(max(step, round(width * factor / step) * step) for width in self.widths)
            candidate = self._measured(depth, widths)
            any_refused |= not self._consider(depth, widths)
            if candidate is None:
                return True
            low, high = (factor, high) if candidate.cost < self.target else (low, factor)
        return any_refused

    def tune(self, depth: int | None) -> None:
        """From the best widths, if they are of this depth, change one at a time for as long as it helps."""
        before = float("inf")
        while self.best.get("depth") == depth and TOLERANCE < self.best_error < before:
            before, widths = self.best_error, tuple(self.best["widths"])
            for index, width in enumerate(widths):
                for change in (change for step in _STEPS for change in (-step, step) if width + change > 0):
                    self._consider(depth, (*widths[:index], width + change, *widths[index + 1 :]))

    def _consider(self, depth: int | None, widths: tuple[int, ...]) -> bool:
        """Take the candidate if it is the best so far; say whether it was one that may be taken."""
        candidate, unscaled = self._measured(depth, widths), self._measured(depth, self.widths)
        if candidate is None or unscaled is None or candidate.swapped != unscaled.swapped:
            return False
        error = abs(candidate.cost / self.target - 1)
        if error < self.best_error:
            self.best, self.best_error, self.best_cost = _arguments(depth, widths), error, candidate.cost
        return True

    def _measured(self, depth: int | None, widths: tuple[int, ...]) -> Candidate | None:
        """The candidate, or None where there is no such network."""
        if (depth, widths) not in self.tried:
            try:
                self.tried[depth, widths] = self.measure(**_arguments(depth, widths))
            except UserError:
                self.tried[depth, widths] = None
        return self.tried[depth, widths]


def _arguments(depth: int | None, widths: tuple[int, ...]) -> dict[str, Any]:
    return {"widths": list(widths)} | ({} if depth is None else {"depth": depth})
