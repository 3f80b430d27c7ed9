"""Terminal output: aligned tables, and streams that tolerate closed pipes and characters they cannot encode."""

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO


def tolerate_closed_pipes() -> None:
    """Replace stdout and stderr by streams that raise no error for closed pipes and unencodable characters.

    Output to a closed pipe is discarded, and characters that the encoding does not support are escaped. Training
    therefore continues, for example, after `head` has exited, and the run folder still contains the complete results.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError, ValueError):  # the stream is closed or has no file descriptor
                stream.flush()
                setattr(sys, name, _tolerant(stream))


def _tolerant(stream: io.TextIOWrapper) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Descriptor(io.FileIO):
    """File descriptor that is redirected to the null device when its pipe is closed."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            null_device = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null_device, self.fileno())
            os.close(null_device)
            return memoryview(data).nbytes


def table(rows: Sequence[Sequence[str]], left: int = 1, has_total: bool = False) -> str:
    """Format rows as aligned columns, with a rule below the header and, with `has_total`, above the last row.

    Args:
        rows: cells of each row; the first row is the header.
        left: number of left-aligned columns; the other columns contain numbers and are right-aligned.
        has_total: whether the last row is the sum of the others.
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
