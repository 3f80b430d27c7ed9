"""Reading and writing of files: text in UTF-8, standard JSON, and atomic replacement of files."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# UTF-8 for every locale; `surrogateescape` preserves file names that are not valid UTF-8.
_ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


def read_text(path: Path) -> str:
    """Read the content of a text file."""
    return path.read_text(**_ENCODING)


def open_text(path: Path, mode: str, newline: str | None = None) -> IO[str]:
    """Open a text file with mode `w` or `a`; `newline` is that of `open`, the empty string for CSV files."""
    return path.open(mode, newline=newline, **_ENCODING)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` atomically if the block succeeds.

    The file is flushed to the disk before the replacement and its folder after it. After a power failure, `path`
    therefore has the old or the new content, and is never empty or incomplete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, **_ENCODING)


def write_json(path: Path, value: Any, **layout: Any) -> None:
    """Write a JSON file atomically; `layout` is passed to `to_json`."""
    write_text(path, to_json(value, **layout) + "\n")


def to_json(value: Any, **layout: Any) -> str:
    """Serialise a value as JSON; NaN and infinity, which standard JSON does not support, become null.

    Args:
        value: dictionaries, lists, tuples, strings, numbers, Booleans and None.
        layout: keyword arguments of `json.dumps`, such as `indent=1`.
    """
    return json.dumps(_non_finite_to_none(value), allow_nan=False, **layout)


def _non_finite_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _non_finite_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_non_finite_to_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    # Windows cannot open folders, and some network file systems cannot flush them.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
