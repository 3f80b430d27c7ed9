"""Which variants are worth their cost: no other is both cheaper and better."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from convbench.report.measured import accuracies
from convbench.report.statistics import estimate
from convbench.report.variants import Variant

COSTS = {"params": "parameters", "macs": "MACs an image", "seconds_per_epoch": "seconds per epoch"}


@dataclass
class Point:
    """Of a variant.

    Attributes:
        costs: cost -> mean over its runs; those that it lacks left out.
        mean, low, high: accuracy in percent and its 95 % interval (the mean itself where the runs have no spread);
            None for no finished run.
        front: cost -> whether no other variant is both cheaper and better.
    """

    costs: dict[str, float]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    front: dict[str, bool] = field(default_factory=dict)

    @property
    def bar(self) -> list[list[float]] | None:
        """What matplotlib takes as an error bar; None for no finished run."""
        if self.mean is None or self.low is None or self.high is None:
            return None
        return [[self.mean - self.low], [self.high - self.mean]]


def pareto_points(variants: Sequence[Variant], split: str) -> list[Point]:
    """A point for each variant, in their order, with the accuracy on a split."""
    points = [_point(variant, split) for variant in variants]
    for cost in COSTS:
        order = [point for point in points if point.mean is not None and cost in point.costs]
        order.sort(key=lambda point: (point.costs[cost], -(point.mean or 0.0)))
        best = float("-inf")
        for point in order:
            assert point.mean is not None
            point.front[cost] = point.mean > best
            best = max(best, point.mean)
    return points


def _point(variant: Variant, split: str) -> Point:
    costs = {cost: estimate(list(values.values())).mean for cost in COSTS if (values := variant.of_each(cost))}
    reached = list(accuracies(variant, split).values.values())
    if not reached:
        return Point(costs)
    found = estimate(reached)
    half = found.half_width or 0.0
    return Point(costs, found.mean, found.mean - half, found.mean + half)
