"""From run folders to a report: table, sentences, figures, a page, and curves for TensorBoard."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convbench.errors import UserError
from convbench.files import atomic_path, open_text, write_text
from convbench.report.caveats import caveats
from convbench.report.columns import Column, columns, common_target
from convbench.report.curves import ROUTING, X_AXES, Y_AXES, Curve, learning_curve, routing_curves
from convbench.report.figures import write_figures
from convbench.report.findings import findings
from convbench.report.measured import SPLITS, compared_split
from convbench.report.page import write_page
from convbench.report.pareto import COSTS, Point, pareto_points
from convbench.report.settings import Settings
from convbench.report.statistics import estimate
from convbench.report.styles import line_style
from convbench.report.table import table
from convbench.report.tensorboard import write_tensorboard
from convbench.report.variants import Comparison, Variant, sort_into_variants
from convbench.run_folders.record import RunRecord, check_keys, find_runs

MOST_CURVES = 40  # variants that are drawn: those of the best validation accuracy
_MOST_ROWS = 50  # on the terminal


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


def write_report(folders: Sequence[Path], output: Path, settings: Settings) -> str:
    """Compare runs and write `table.md`, `table.csv`, figures, `index.html` and curves for TensorBoard.

    Returns:
        What a person sees on the terminal.

    Raises:
        UserError: if there is nothing to compare.
    """
    report = make_report(folders, settings)
    _write_markdown(report, output / "table.md")
    _write_csv(report, output / "table.csv")
    write_figures(report, output)
    write_tensorboard(report, output / "tensorboard")
    write_page(output / "index.html", page_data(report, output))
    return f"{for_terminal(report)}\n\nreport: {output / 'index.html'}"


def for_terminal(report: Report) -> str:
    """The table with its most asked-for columns, the findings and the warnings."""
    wanted = ("test_accuracy", "params", "macs", "seconds_per_epoch")
    chosen = [index for index, column in enumerate(report.columns) if column.key in wanted]
    rows = [[*(report.comparison.keys or ["variant"]), "n", *(report.columns[index].head for index in chosen)]]
    variants = report.comparison.variants
    for variant in variants[:_MOST_ROWS]:
        rows.append(
            [*_names(variant), str(len(variant.finished)), *(_cell(report, index, variant) for index in chosen)]
        )
    lines = [table(rows, left=len(rows[0]) - len(chosen) - 1)]
    if len(variants) > _MOST_ROWS:
        lines.append(f"... and {len(variants) - _MOST_ROWS} more variants")
    lines.append(f"\n{_LEGEND}")
    lines += [f"\n{sentence}" for sentence in report.findings]
    lines += [f"\nnote: {sentence}" for sentence in report.warnings]
    return "\n".join(lines)


_LEGEND = "± half the 95 % interval of the mean over seeds; * better than every other by more than chance"


def _names(variant: Variant) -> list[str]:
    return list(variant.keys.values()) or [variant.label]


def _cell(report: Report, index: int, variant: Variant) -> str:
    return report.columns[index].text(variant) + (" *" if report.best[index] is variant else "")


def _write_markdown(report: Report, path: Path) -> None:
    head = [*(report.comparison.keys or ["variant"]), "n", *(column.head for column in report.columns)]
    lines = [f"# Comparison of {report.title}", "", f"{report.summary}. {_LEGEND[0].upper()}{_LEGEND[1:]}.", ""]
    lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for variant in report.comparison.variants:
        cells = [_cell(report, index, variant) for index in range(len(report.columns))]
        row = [*_names(variant), str(len(variant.finished)), *cells]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    lines += ["", *(f"- {sentence}." for sentence in report.findings)]
    if report.warnings:
        lines += ["", "To know before believing it:", "", *(f"- {sentence}." for sentence in report.warnings)]
    lines += ["", *(f"- **{column.head}**: {column.help}." for column in report.columns)]
    write_text(path, "\n".join(lines) + "\n")


def _write_csv(report: Report, path: Path) -> None:
    """A row a variant; for each column the mean over its runs, their standard deviation and half the 95 % interval."""
    parts = ("", "_deviation", "_half_interval")
    head = [*report.comparison.keys, "n", *(column.key + part for column in report.columns for part in parts)]
    with atomic_path(path) as temporary, open_text(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for variant in report.comparison.variants:
            row: list[object] = [*variant.keys.values(), len(variant.finished)]
            for column in report.columns:
                values = column.values(variant)
                of_mean = estimate(values) if values else None
                row += [None] * 3 if of_mean is None else [of_mean.mean, of_mean.deviation, of_mean.half_width]
            writer.writerow(row)


def page_data(report: Report, output: Path) -> dict[str, Any]:
    """What `index.html` shows.

    Args:
        report: the comparison.
        output: the folder of the page, from which links to run folders lead.
    """
    shown = {column.key: column for column in report.columns}
    return {
        "title": report.title,
        "made": f"{datetime.now():%Y-%m-%d %H:%M}",
        "version": version("convbench"),
        "summary": report.summary,
        "warnings": report.warnings,
        "findings": report.findings,
        "keys": report.comparison.keys,
        "columns": [
            {"key": "n", "title": "n", "unit": "", "help": "finished runs, each of its own seed", "better": None},
            *(
                {
                    "key": key,
                    "title": column.title,
                    "unit": column.unit,
                    "help": column.help,
                    "better": column.better or None,
                }
                for key, column in shown.items()
            ),
        ],
        "variants": [_page_variant(report, index, output) for index in range(len(report.comparison.variants))],
        "charts": _charts(report),
    }


def _page_variant(report: Report, index: int, output: Path) -> dict[str, Any]:
    variant, looks = report.comparison.variants[index], line_style(index)
    cells: dict[str, Any] = {
        "n": {"value": len(variant.finished), "text": str(len(variant.finished)), "is_best": False}
    }
    for column, best in zip(report.columns, report.best, strict=True):
        cells[column.key] = {
            "value": column.mean(variant),
            "text": column.text(variant),
            "is_best": best is variant,
        }
    return {
        "label": variant.label,
        "keys": variant.keys,
        "color": looks.color,
        "dash": looks.dash,
        "marker": looks.marker,
        "cells": cells,
        "runs": [_page_run(run, output) for run in variant.runs],
    }


def _page_run(run: RunRecord, output: Path) -> dict[str, Any]:
    accuracy, seconds = run.score("test", "accuracy"), run.seconds_total
    return {
        "folder": os.path.relpath(run.folder, output),
        "name": run.folder.name,
        "seed": run.seed,
        "status": run.status,
        "cells": {
            "test_accuracy": "" if accuracy is None else f"{100 * accuracy:.2f}",
            "seconds_total": "" if seconds is None else f"{seconds:.0f} s",
        },
        "command": run.command,
    }


def _charts(report: Report) -> list[dict[str, Any]]:
    charts: list[dict[str, Any]] = []
    if report.curves:
        charts.append(
            {
                "id": "curves",
                "title": "Learning curves",
                "kind": "lines",
                "note": "band: one standard deviation over seeds to each side; seconds and images are means over seeds",
                "x_options": _options(X_AXES),
                "y_options": _options(Y_AXES),
                "series": [_series(index, curve) for index, curve in report.curves.items()],
            }
        )
    if any(point.mean is not None for point in report.points):
        charts.append(
            {
                "id": "pareto",
                "title": "Accuracy against cost",
                "kind": "points",
                "note": "bars: 95 % interval of the mean; joined: no other variant is cheaper and better in the mean",
                "x_options": [{"key": key, "title": title, "log": True} for key, title in COSTS.items()],
                "y_options": [{"key": "accuracy", "title": f"{SPLITS[report.split]} accuracy (%)", "log": False}],
                "points": [
                    {
                        "variant": index,
                        "x": point.costs,
                        "y": {"accuracy": {"mean": point.mean, "low": point.low, "high": point.high}},
                        "front": point.front,
                    }
                    for index, point in enumerate(report.points)
                    if point.mean is not None
                ],
            }
        )
    if report.routing:
        charts.append(
            {
                "id": "routing",
                "title": "Learned routing",
                "kind": "lines",
                "note": "of convolutions that mix kernels for each image, a curve for each layer, means over seeds",
                "x_options": _options({"epochs": X_AXES["epochs"]}),
                "y_options": _options(ROUTING),
                "series": [_series(index, curve) for index, layers in report.routing.items() for curve in layers],
            }
        )
    return charts


def _options(axes: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "title": title, "log": False} for key, title in axes.items()]


def _series(index: int, curve: Curve) -> dict[str, Any]:
    return {"variant": index, "label": curve.label or None, "x": curve.x, "y": curve.y}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
