"""Output of a comparison on the terminal and to files: Markdown, CSV, figures, the HTML page, TensorBoard."""

import csv
from collections.abc import Sequence
from pathlib import Path

from convbench.files import atomic_path, open_text, write_text
from convbench.report.comparison import Report, make_report
from convbench.report.figures import write_figures
from convbench.report.page import write_page
from convbench.report.page_data import page_data
from convbench.report.settings import Settings
from convbench.report.tensorboard_curves import write_tensorboard
from convbench.report.variants import Variant
from convbench.terminal import table

_MAX_ROWS = 50  # maximum number of variants on the terminal


def write_report(folders: Sequence[Path], output: Path, settings: Settings) -> str:
    """Compare runs and write `table.md`, `table.csv`, figures, `index.html` and curves for TensorBoard.

    Args:
        folders: run folders, or folders that contain run folders at any depth.
        output: the folder to write to.
        settings: how to compare the runs.

    Returns:
        The text for the terminal.

    Raises:
        UserError: if there is nothing to compare, see `make_report`.
    """
    report = make_report(folders, settings)
    _write_markdown(report, output / "table.md")
    _write_csv(report, output / "table.csv")
    write_figures(report, output)
    write_tensorboard(report, output / "tensorboard")
    write_page(output / "index.html", page_data(report, output))
    return f"{for_terminal(report)}\n\nreport: {output / 'index.html'}"


def for_terminal(report: Report) -> str:
    """The text for the terminal: the table with the main columns, the findings and the warnings."""
    main_columns = ("test_accuracy", "params", "macs", "seconds_per_epoch")
    chosen = [index for index, column in enumerate(report.columns) if column.key in main_columns]
    rows = [[*(report.comparison.keys or ["variant"]), "n", *(report.columns[index].head for index in chosen)]]
    variants = report.comparison.variants
    for variant in variants[:_MAX_ROWS]:
        rows.append(
            [*_names(variant), str(len(variant.finished)), *(_cell(report, index, variant) for index in chosen)]
        )
    lines = [table(rows, left=len(rows[0]) - len(chosen) - 1)]
    if len(variants) > _MAX_ROWS:
        lines.append(f"... and {len(variants) - _MAX_ROWS} more variants")
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
        lines += ["", "Warnings:", "", *(f"- {sentence}." for sentence in report.warnings)]
    lines += ["", *(f"- **{column.head}**: {column.help}." for column in report.columns)]
    write_text(path, "\n".join(lines) + "\n")


def _write_csv(report: Report, path: Path) -> None:
    """Write `Report.rows` as CSV, a row for each variant."""
    rows = report.rows()
    with atomic_path(path) as temporary, open_text(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
