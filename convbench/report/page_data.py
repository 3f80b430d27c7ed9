"""The content of the page of a comparison, as plain values."""

import os
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convbench.report.comparison import Report
from convbench.report.curves import ROUTING, X_AXES, Y_AXES, Curve
from convbench.report.measured import SPLITS
from convbench.report.pareto import COSTS
from convbench.report.styles import line_style
from convbench.run_folders.record import RunRecord


def page_data(report: Report, output: Path) -> dict[str, Any]:
    """The content of `index.html`, in the format of `page.write_page`.

    Args:
        report: the comparison.
        output: the folder of the page; links to run folders are relative to it.
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
            {"key": "n", "title": "n", "unit": "", "help": "finished runs with different seeds", "better": None},
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
    variant, style = report.comparison.variants[index], line_style(index)
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
        "color": style.color,
        "dash": style.dash,
        "marker": style.marker,
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
                "note": "band: ± one standard deviation over seeds; seconds and images are means over seeds",
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
                "note": "bars: 95 % interval of the mean; line: Pareto front of cost and mean accuracy",
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
                "note": "only convolutions that mix kernels for each image; a curve for each layer; means over seeds",
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
