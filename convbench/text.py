"""Text files: UTF-8 whatever the locale says, and names of files that are no UTF-8 come back as they were."""

from pathlib import Path
from typing import IO, Any

HOW: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


def read_text(path: Path) -> str:
    """The content of a text file."""
    return path.read_text(**HOW)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    path.write_text(text, **HOW)


def open_text(path: Path, mode: str, newline: str | None = None) -> IO[str]:
    """Open a text file: `w` to write, `a` to append; `newline` as in `open`, for CSV files the empty text."""
    return path.open(mode, newline=newline, **HOW)
