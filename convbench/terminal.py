"""The terminal: aligned tables, and output streams that survive a closed pipe or a character they cannot show."""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO


def tolerate_closed_pipes() -> None:
    """Let nothing that is said end the program: what cannot be shown is escaped, what nobody reads is dropped.

    Training then goes on to its end, and its folder says what the pipe did not carry.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError, ValueError):  # closed, or no file
                stream.flush()
                setattr(sys, name, _patient(stream))


def _patient(stream: io.TextIOWrapper) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Descriptor(io.FileIO):
    """A file descriptor that leads to nowhere once its reader has gone."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


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
