"""Files: text in UTF-8, standard JSON, and writes after which a file has its old or its new content, never half."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# UTF-8 whatever the locale says; names of files that are not valid UTF-8 come back unchanged.
_ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


def read_text(path: Path) -> str:
    """The content of a text file."""
    return path.read_text(**_ENCODING)


def open_text(path: Path, mode: str, newline: str | None = None) -> IO[str]:
    """Open a text file: `w` to write, `a` to append; `newline` as in `open`, for CSV files the empty text."""
    return path.open(mode, newline=newline, **_ENCODING)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` in one step if the block succeeds.

    The content is flushed to the disk before the replacement and the folder after it, so that not even a power failure
    leaves a file that is empty or incomplete.
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
    """Write a JSON file atomically; `layout` as in `to_json`."""
    write_text(path, to_json(value, **layout) + "\n")


def to_json(value: Any, **layout: Any) -> str:
    """A value as JSON; a number that is not finite, which JSON lacks, becomes null.

    Args:
        value: dictionaries, lists, tuples, text, numbers, truth values and None.
        layout: as `json.dumps` takes it, such as `indent=1`.
    """
    return json.dumps(_finite(value), allow_nan=False, **layout)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    # Windows opens no folders, and some network file systems cannot flush them.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
