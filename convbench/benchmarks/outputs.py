"""Files that a benchmark writes: CSV tables and bar charts."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convbench.files import atomic_path, open_text

_BLUE, _GREY = "#0072B2", "#999999"  # told apart also by the colour-blind, and in grey


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each row; all have the same keys."""
    with atomic_path(path) as temporary, open_text(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def bar_chart(path: Path, bars: Mapping[str, float], title: str, unit: str, marked: Sequence[str] = ()) -> None:
    """Horizontal bars in the order given, each with its number.

    Args:
        path: a PNG.
        bars: label -> length.
        title: above.
        unit: of the axis.
        marked: labels of bars in grey.
    """
    from matplotlib.figure import Figure  # no window, no global state; half a second

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
