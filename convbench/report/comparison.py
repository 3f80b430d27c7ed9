"""A comparison of runs: variants, columns, sentences and curves, before anything of it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convbench.errors import UserError
from convbench.report.caveats import caveats
from convbench.report.columns import Column, columns, common_target
from convbench.report.curves import Curve, learning_curve, routing_curves
from convbench.report.findings import findings
from convbench.report.measured import compared_split
from convbench.report.pareto import Point, pareto_points
from convbench.report.settings import Settings
from convbench.report.statistics import estimate
from convbench.report.variants import Comparison, Variant, sort_into_variants
from convbench.run_folders.record import check_keys, find_runs

MOST_CURVES = 40  # variants that are drawn: those of the best validation accuracy


@dataclass(frozen=True)
class Report:
    """A comparison, ready to be written.

    Attributes:
        title: what was compared.
        comparison: the variants.
        columns: of the table.
        best: for each column the variant that is better than all others by more than chance, or None.
        findings, warnings: sentences.
        drawn: numbers of the variants whose curves are drawn.
        curves: of the drawn variants, None where a variant has no finished run.
        routing: of the drawn variants, a curve for each layer.
        points: accuracy and costs of each variant.
        split: whose accuracy is compared, `test` or `val`.
    """

    title: str
    comparison: Comparison
    columns: list[Column]
    best: list[Variant | None]
    findings: list[str]
    warnings: list[str]
    drawn: list[int] = field(default_factory=list)
    curves: dict[int, Curve] = field(default_factory=dict)
    routing: dict[int, list[Curve]] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    split: str = "test"

    def rows(self) -> list[dict[str, Any]]:
        """A row for each variant, with plain values: for each column mean, standard deviation and half interval."""
        return [self._row(variant) for variant in self.comparison.variants]

    def _row(self, variant: Variant) -> dict[str, Any]:
        row: dict[str, Any] = {**variant.keys, "n": len(variant.finished)}
        for column in self.columns:
            values = column.values(variant)
            found = estimate(values) if values else None
            row[column.key] = None if found is None else found.mean
            row[f"{column.key}_deviation"] = None if found is None else found.deviation
            row[f"{column.key}_half_interval"] = None if found is None else found.half_width
        return row

    @property
    def summary(self) -> str:
        """One line on what was read."""
        variants = self.comparison.variants
        finished = sum(len(variant.finished) for variant in variants)
        compared = ", ".join(self.comparison.by) or "nothing varies"
        return f"{_count(finished, 'finished run')} in {_count(len(variants), 'variant')}; compared: {compared}"


def make_report(folders: Sequence[Path], settings: Settings) -> Report:
    """Read runs and compare them.

    Args:
        folders: of runs, or with runs somewhere below.
        settings: how.

    Raises:
        UserError: if no run has begun there, or a key to compare by does not vary.
    """
    found = find_runs(folders)
    begun = [run for run in found.runs if run.has_begun]
    if not begun:
        raise UserError(f"there are no runs in {', '.join(map(str, folders))}: give the folder of a sweep (folders)")
    check_keys(settings.by or (), begun)
    comparison = sort_into_variants(begun, settings.by, settings.reference)
    unknown = [key for key in comparison.by if key not in comparison.keys]
    if unknown:
        raise UserError(
            f"{', '.join(unknown)} is the same in all runs; what varies: {', '.join(comparison.keys) or 'nothing'} (by)"
        )
    variants = comparison.variants
    target = common_target(variants) if settings.target_accuracy is None else settings.target_accuracy / 100
    chosen = columns(target)
    split = compared_split(variants)
    points = pareto_points(variants, split)
    by_accuracy = sorted(range(len(variants)), key=lambda index: -(points[index].mean or 0.0))
    drawn = sorted(by_accuracy[:MOST_CURVES])
    curves = {index: curve for index in drawn if (curve := learning_curve(variants[index])) is not None}
    routing = {index: layers for index in drawn if (layers := routing_curves(variants[index]))}
    return Report(
        title=", ".join(map(str, folders)),
        comparison=comparison,
        columns=chosen,
        best=[column.best(variants, settings.test) for column in chosen],
        findings=findings(comparison, settings),
        warnings=[
            *(f"{place} cannot be read: {why}" for place, why in found.broken),
            *caveats(comparison, found.runs),
            *(
                [f"figures show the {MOST_CURVES} variants of the best accuracy, of {len(variants)}"]
                if len(variants) > MOST_CURVES
                else []
            ),
        ],
        drawn=drawn,
        curves=curves,
        routing=routing,
        points=points,
        split=split,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
