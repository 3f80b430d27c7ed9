"""A terminal or a pipe as it may be: its reader goes away (`| head`), or it cannot show a character."""

import contextlib
import io
import os
import sys
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
