"""Contents of one folder: images, subfolders and all other entries. No file is opened."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from convbench.data.decode import EXTENSIONS
from convbench.errors import UserError

# Files that file managers create; they are skipped without a message.
_CLUTTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".directory"})

# Kinds of skipped entries
HIDDEN = "hidden files and folders"
BROKEN = "broken links and special files"
_NO_IMAGE = "files with an unsupported extension"

_EXAMPLES = 3


class ImageFile(NamedTuple):
    """Name, size and time of an image file.

    Attributes:
        name: path relative to the root folder of the data set, with forward slashes.
        size: size of the file in bytes.
        time: time of the last change, in nanoseconds.
    """

    name: str
    size: int
    time: int


@dataclass
class SkippedEntries:
    """Names of the skipped files and folders, by kind."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Add names of one kind."""
        self.names.setdefault(kind, []).extend(names)

    def update(self, other: "SkippedEntries") -> None:
        """Add all names of another record."""
        for kind, names in other.names.items():
            self.add(kind, names)

    def __str__(self) -> str:
        """Number and examples of each kind; empty if nothing was skipped."""
        return "; ".join(f"{kind}: {len(names)} ({_examples(names)})" for kind, names in self.names.items() if names)


@dataclass(frozen=True)
class Contents:
    """Entries of a folder, without those of its subfolders.

    Attributes:
        images: image files, sorted by name.
        folders: sorted names of the subfolders, except hidden ones and those of macOS archives (`__MACOSX`).
        left_out: files with an unknown extension, hidden images and folders, broken links and special files.
    """

    images: list[ImageFile]
    folders: list[str]
    left_out: SkippedEntries


def read_folder(folder: Path, prefix: str = "") -> Contents:
    """Classify the entries of a folder as images, subfolders or skipped entries.

    Args:
        folder: the folder to read.
        prefix: text that is put before the names of files.

    Raises:
        UserError: if the folder cannot be read.
    """
    images, folders, left_out = [], [], SkippedEntries()
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
            f"cannot read the folder {folder.absolute()} ({error.strerror or error}): make it readable, or give "
            f"another folder (data.root)"
        ) from error
    return Contents(sorted(images), sorted(folders), left_out)


def _kind_of(entry: "os.DirEntry[str]") -> str | None:
    """`image`, `folder`, the kind of a skipped entry, or None for an entry that is skipped without a message."""
    is_image = os.path.splitext(entry.name)[1].lower() in EXTENSIONS
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError:  # a symbolic link to itself
        return BROKEN
    if entry.name in _CLUTTER:
        return None
    if entry.name.startswith(".") or (is_folder and entry.name.startswith("__")):
        return HIDDEN if is_image or is_folder else None
    if is_folder:
        return "folder"
    if not is_file:
        return BROKEN
    return "image" if is_image else _NO_IMAGE


def _examples(names: list[str]) -> str:
    shown = sorted(names)[:_EXAMPLES]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
