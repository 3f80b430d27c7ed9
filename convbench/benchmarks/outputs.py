"""The output files of a benchmark: CSV tables and bar charts."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convbench.files import atomic_path, open_text

_BLUE, _GREY = "#0072B2", "#999999"  # distinguishable with colour blindness, and in a greyscale print


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header and a line for each row; all rows have the same keys."""
    with atomic_path(path) as temporary, open_text(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def bar_chart(path: Path, bars: Mapping[str, float], title: str, unit: str, marked: Sequence[str] = ()) -> None:
    """Draw horizontal bars from top to bottom, each with its value.

    Args:
        path: PNG file to write.
        bars: length of each bar, by its label.
        title: title of the chart.
        unit: label of the axis.
        marked: labels of the bars to draw in grey.
    """
    # Figure needs no window and no global state, unlike pyplot. The import takes half a second.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.28 * len(bars)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh(list(bars), list(bars.values()), color=[_GREY if name in marked else _BLUE for name in bars])
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
