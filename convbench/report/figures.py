"""The figures of a report, as PNG and SVG files."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from convbench.files import atomic_path
from convbench.report.comparison import Report
from convbench.report.curves import ROUTING, X_AXES, Y_AXES
from convbench.report.measured import SPLITS
from convbench.report.pareto import COSTS
from convbench.report.styles import line_style

_MAX_LEGEND_ENTRIES = 20  # a longer legend cannot be read and is omitted
_CURVES = ("val_accuracy", "train_accuracy", "val_loss", "train_loss")
_GAPS = ("gap_accuracy", "gap_loss")


def write_figures(report: Report, folder: Path) -> None:
    """Write the learning curves over each x axis, the generalisation gaps, the Pareto fronts and the routing curves.

    A figure without data is not written.

    Args:
        report: the comparison.
        folder: the folder of the files.
    """
    from matplotlib import rc_context

    with rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "svg.hashsalt": "convbench"}):
        for axis in X_AXES:
            _write(folder / f"curves_{axis}", 2, 2, partial(_draw_curves, report, axis, _CURVES))
        _write(folder / "gap", 1, 2, partial(_draw_curves, report, "epochs", _GAPS))
        _write(folder / "pareto", 1, len(COSTS), partial(_draw_pareto, report))
        if report.routing:
            _write(folder / "routing", 1, len(ROUTING), partial(_draw_routing, report))


def _write(path: Path, rows: int, columns: int, draw: Callable[[Sequence[Any]], bool]) -> None:
    """Draw a grid of axes with a legend below and save it as PNG and SVG.

    Args:
        path: the path of the files without an extension.
        rows: the number of rows of the grid.
        columns: the number of columns of the grid.
        draw: draws on the axes and returns whether there was anything to draw; if not, nothing is saved.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # a non-interactive canvas, which needs no display
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    if not draw(axes):
        return
    handles, labels = axes[0].get_legend_handles_labels()
    if 1 <= len(labels) <= _MAX_LEGEND_ENTRIES:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    for extension in ("png", "svg"):
        with atomic_path(path.with_suffix(f".{extension}")) as temporary:
            metadata = {"Date": None} if extension == "svg" else {}  # no date, so that the same runs give the same file
            figure.savefig(temporary, format=extension, dpi=150, metadata=metadata)


def _draw_curves(report: Report, axis: str, quantities: Sequence[str], axes: Sequence[Any]) -> bool:
    for ax, quantity in zip(axes, quantities, strict=True):
        for index, curve in report.curves.items():
            _draw_line(ax, index, report.comparison.variants[index].label, curve.x[axis], curve.y[quantity])
        _format_x_axis(ax, axis)
        ax.set_ylabel(Y_AXES[quantity])
    return bool(report.curves)


def _format_x_axis(ax: Any, axis: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    ax.set_xlabel(X_AXES[axis])
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=axis == "epochs"))
    if axis in ("images", "flops"):
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def _draw_line(
    ax: Any, index: int, label: str, x: Sequence[float], y: dict[str, list[float | None]], width: float = 1.5
) -> None:
    """Draw the mean as a line in the style of the variant `index`, and the standard deviation as a band."""
    style = line_style(index)
    band = {name: [float("nan") if value is None else value for value in values] for name, values in y.items()}
    ax.plot(
        x,
        band["mean"],
        label=label,
        color=style.color,
        linestyle=style.linestyle,
        linewidth=width,
        marker=style.matplotlib_marker,
        markersize=4,
        markevery=max(1, len(x) // 8),
    )
    if band["low"] != band["high"]:
        ax.fill_between(x, band["low"], band["high"], color=style.color, alpha=0.15, linewidth=0)


def _draw_pareto(report: Report, axes: Sequence[Any]) -> bool:
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

    plotted = [(index, point) for index, point in enumerate(report.points) if point.bar is not None]
    for ax, (cost, title) in zip(axes, COSTS.items(), strict=True):
        # Only the variants whose curves are drawn have a style of their own; the others are grey dots.
        others = [point for index, point in plotted if index not in report.drawn and cost in point.costs]
        ax.scatter([point.costs[cost] for point in others], [point.mean for point in others], s=6, color="0.7")
        for index, point in plotted:
            if index not in report.drawn or cost not in point.costs or point.bar is None:
                continue
            style, label = line_style(index), report.comparison.variants[index].label
            ax.errorbar(
                point.costs[cost],
                point.mean,
                yerr=point.bar,
                color=style.color,
                marker=style.matplotlib_marker,
                capsize=2,
                linestyle="none",
                label=label,
            )
        front = sorted((point.costs[cost], point.mean) for _, point in plotted if point.front.get(cost))
        ax.plot([x for x, _ in front], [y for _, y in front], color="0.5", linewidth=1, zorder=0)
        # A range below one decade has too few round numbers for the ticks of a logarithmic axis.
        costs = [point.costs[cost] for _, point in plotted if cost in point.costs]
        if costs and max(costs) > 10 * min(costs) > 0:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_xlabel(title)
        ax.set_ylabel(f"{SPLITS[report.split]} accuracy (%)")
    return bool(plotted)


def _draw_routing(report: Report, axes: Sequence[Any]) -> bool:
    for ax, (quantity, title) in zip(axes, ROUTING.items(), strict=True):
        for index, layers in report.routing.items():
            for number, curve in enumerate(layers):
                label = report.comparison.variants[index].label + ", its layers" if number == 0 else "_"
                _draw_line(ax, index, label, curve.x["epochs"], curve.y[quantity], width=0.8)
        _format_x_axis(ax, "epochs")
        ax.set_ylabel(title)
        ax.set_ylim(-0.02 if quantity != "similarity" else None, 1.02)
    return True
