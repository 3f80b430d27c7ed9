"""Pareto fronts of accuracy and cost: the variants for which no other variant is both cheaper and better."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from convbench.report.measured import accuracies
from convbench.report.statistics import estimate
from convbench.report.variants import Variant

COSTS = {"params": "parameters", "macs": "MACs an image", "seconds_per_epoch": "seconds per epoch"}


@dataclass
class Point:
    """Mean costs and mean accuracy of a variant.

    Attributes:
        costs: cost -> mean over the runs of the variant; costs that no run records are left out.
        mean: the mean accuracy in percent; None if no finished run has an accuracy.
        low, high: the ends of the 95 % confidence interval of the mean, equal to `mean` if the runs do not differ or
            there is only one; None if `mean` is None.
        front: cost -> whether the variant is on the Pareto front of this cost and accuracy.
    """

    costs: dict[str, float]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    front: dict[str, bool] = field(default_factory=dict)

    @property
    def bar(self) -> list[list[float]] | None:
        """The error bar as the `yerr` of matplotlib, shape (2, 1); None if there is no mean accuracy."""
        if self.mean is None or self.low is None or self.high is None:
            return None
        return [[self.mean - self.low], [self.high - self.mean]]


def pareto_points(variants: Sequence[Variant], split: str) -> list[Point]:
    """A point for each variant, in the order of `variants`, with the accuracy on a split."""
    points = [_point(variant, split) for variant in variants]
    for cost in COSTS:
        by_cost = [point for point in points if point.mean is not None and cost in point.costs]
        by_cost.sort(key=lambda point: (point.costs[cost], -(point.mean or 0.0)))
        best = float("-inf")
        for point in by_cost:
            assert point.mean is not None
            point.front[cost] = point.mean > best
            best = max(best, point.mean)
    return points


def _point(variant: Variant, split: str) -> Point:
    costs = {cost: estimate(list(by_seed.values())).mean for cost in COSTS if (by_seed := variant.values_by_seed(cost))}
    values = list(accuracies(variant, split).values.values())
    if not values:
        return Point(costs)
    accuracy = estimate(values)
    half_width = accuracy.half_width or 0.0
    return Point(costs, accuracy.mean, accuracy.mean - half_width, accuracy.mean + half_width)
