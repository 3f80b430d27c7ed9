"""What lies in one folder: images, folders, and what is neither; opens no file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from convbench.data.decode import EXTENSIONS
from convbench.errors import UserError

# What file managers leave everywhere; nobody misses it.
_CLUTTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".directory"})

# Kinds of what is left out
HIDDEN = "hidden names"
BROKEN = "broken links and special files"
_OTHER_ENDINGS = "files with another ending"

_EXAMPLES = 3


class ImageFile(NamedTuple):
    """A file as it was found.

    Attributes:
        name: path relative to the dataset's folder, with forward slashes.
        size: in bytes.
        time: of the last change, in nanoseconds.
    """

    name: str
    size: int
    time: int


@dataclass
class LeftOut:
    """Names of what was found and not taken, by kind."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Note further names of a kind."""
        self.names.setdefault(kind, []).extend(names)

    def update(self, other: "LeftOut") -> None:
        """Note all that another one holds."""
        for kind, names in other.names.items():
            self.add(kind, names)

    def __str__(self) -> str:
        """Counts and examples by kind; empty if nothing was left out."""
        return "; ".join(f"{kind}: {len(names)} ({_examples(names)})" for kind, names in self.names.items() if names)


@dataclass(frozen=True)
class Contents:
    """What lies directly in a folder.

    Attributes:
        images: sorted by name.
        folders: sorted names, without hidden ones and those that archives of macOS leave behind (`__MACOSX`).
        left_out: files with an unknown ending, hidden images and folders, broken links and what is no ordinary file.
    """

    images: list[ImageFile]
    folders: list[str]
    left_out: LeftOut


def read_folder(folder: Path, prefix: str = "") -> Contents:
    """Sort what lies in a folder into images, folders and the rest.

    Args:
        folder: where to look.
        prefix: put before the names of files.

    Raises:
        UserError: if the folder cannot be read.
    """
    images, folders, left_out = [], [], LeftOut()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = _kind_of(entry)
                if kind == "image":
                    status = entry.stat()
                    images.append(ImageFile(prefix + entry.name, status.st_size, status.st_mtime_ns))
                elif kind == "folder":
                    folders.append(entry.name)
                elif kind is not None:
                    left_out.add(kind, [prefix + entry.name])
    except OSError as error:
        raise UserError(
            f"cannot read the folder {folder.absolute()} ({error.strerror or error}): make it readable, or name "
            f"another one (data.root)"
        ) from error
    return Contents(sorted(images), sorted(folders), left_out)


def _kind_of(entry: "os.DirEntry[str]") -> str | None:
    """`image`, `folder`, the reason to leave it out, or None for what need not be mentioned."""
    is_image = os.path.splitext(entry.name)[1].lower() in EXTENSIONS
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a link that leads to itself
        return BROKEN
    if entry.name in _CLUTTER:
        return None
    if entry.name.startswith(".") or (is_folder and entry.name.startswith("__")):
        return HIDDEN if is_image or is_folder else None
    if is_folder:
        return "folder"
    if not is_file:
        return BROKEN
    return "image" if is_image else _OTHER_ENDINGS


def _examples(names: list[str]) -> str:
    shown = sorted(names)[:_EXAMPLES]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
