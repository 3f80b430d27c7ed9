"""Aligned tables for a terminal."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], left: int = 1, has_total: bool = False) -> str:
    """Lines of aligned columns, a rule under the first row and, with `has_total`, above the last.

    Args:
        rows: cells, the head first.
        left: how many columns are aligned to the left; the others, numbers, to the right.
        has_total: the last row sums up the others.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    if has_total:
        lines.insert(-1, rule)
    lines.insert(1, rule)
    return "\n".join(lines)
