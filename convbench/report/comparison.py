"""A comparison of runs as data: variants, columns, sentences and curves. `writing` writes it to files."""

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

MAX_CURVES = 40  # maximum number of variants whose curves are drawn: those with the best accuracy


@dataclass(frozen=True)
class Report:
    """A comparison, ready to be written.

    Attributes:
        title: the folders that were compared.
        comparison: the variants.
        columns: the columns of the table.
        best: for each column the variant that is significantly better than every other variant, or None.
        findings: sentences on the differences between variants.
        warnings: sentences on the validity of the comparison.
        drawn: the indices of the variants whose curves are drawn.
        curves: index of a drawn variant -> its learning curves; variants without a finished run are left out.
        routing: index of a drawn variant -> the routing curves of its layers.
        points: accuracy and costs of each variant.
        split: the split whose accuracy is compared, `test` or `val`.
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
        """The table as plain values, a row for each variant.

        A row holds the keys that vary, the number `n` of finished runs, and for each column the mean, the standard
        deviation (`..._deviation`) and half the 95 % confidence interval of the mean (`..._half_interval`).
        """
        return [self._row(variant) for variant in self.comparison.variants]

    def _row(self, variant: Variant) -> dict[str, Any]:
        row: dict[str, Any] = {**variant.keys, "n": len(variant.finished)}
        for column in self.columns:
            values = column.values(variant)
            result = estimate(values) if values else None
            row[column.key] = None if result is None else result.mean
            row[f"{column.key}_deviation"] = None if result is None else result.deviation
            row[f"{column.key}_half_interval"] = None if result is None else result.half_width
        return row

    @property
    def summary(self) -> str:
        """A line with the numbers of runs and variants and the keys that are compared."""
        variants = self.comparison.variants
        finished = sum(len(variant.finished) for variant in variants)
        compared = ", ".join(self.comparison.by) or "nothing varies"
        return f"{_count(finished, 'finished run')} in {_count(len(variants), 'variant')}; compared: {compared}"


def make_report(folders: Sequence[Path], settings: Settings) -> Report:
    """Read runs and compare them.

    Args:
        folders: run folders, or folders that contain run folders at any depth.
        settings: how to compare the runs.

    Raises:
        UserError: if the folders contain no run that has begun, or if a key to compare by is unknown or has the same
            value in all runs.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise UserError(f"there is no folder {', '.join(missing)}; give folders of runs or of sweeps (folders)")
    found = find_runs(folders)
    begun = [run for run in found.runs if run.has_begun]
    if not begun:
        raise UserError(
            f"there are no runs in {', '.join(map(str, folders))}: give folders of runs or of sweeps (folders)"
        )
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
    drawn = sorted(by_accuracy[:MAX_CURVES])
    curves = {index: curve for index in drawn if (curve := learning_curve(variants[index])) is not None}
    routing = {index: layers for index in drawn if (layers := routing_curves(variants[index]))}
    return Report(
        title=", ".join(map(str, folders)),
        comparison=comparison,
        columns=chosen,
        best=[column.best(variants, settings.test) for column in chosen],
        findings=findings(comparison, settings),
        warnings=[
            *(f"{folder} cannot be read: {reason}" for folder, reason in found.broken),
            *caveats(comparison, found.runs),
            *(
                [f"figures show only the {MAX_CURVES} variants with the best accuracy, out of {len(variants)}"]
                if len(variants) > MAX_CURVES
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
