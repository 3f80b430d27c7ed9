"""Which image files a dataset folder holds, of which split and class; opens none of them."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from convbench.data.decode import EXTENSIONS
from convbench.errors import UserError

log = logging.getLogger("convbench")

SPLITS = ("train", "val", "test")


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


@dataclass(frozen=True)
class Group:
    """The files of one split, sorted by class and name, and a label for each (None: unlabelled)."""

    files: list[ImageFile]
    labels: list[int] | None


@dataclass(frozen=True)
class Layout:
    """What a dataset folder holds.

    Attributes:
        classes: sorted names of the class folders.
        groups: by split, in the order train, val, test; those that have a folder.
        flat: whether there were class folders alone; all images are in the group `train` then.
    """

    classes: tuple[str, ...]
    groups: dict[str, Group]
    flat: bool


def scan(root: Path, hint: str) -> Layout:
    """Find the images of a dataset folder.

    Args:
        root: the folder.
        hint: appended to the message if it does not exist.

    Raises:
        UserError: if the folder is missing, has no or only one class, or a class without images, or if `val` or `test`
            has a class that `train` lacks.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root.absolute()} (data.root): {hint}")
    folders = _subfolders(root)
    present = [name for name in SPLITS if name in folders]
    if present and "train" not in present:
        raise UserError(f"{root.absolute()} has a folder '{present[0]}' but none called 'train' (data.root)")
    if not present:
        classes = _classes(root, folders)
        return Layout(classes, {"train": _labelled(root, "", classes, classes)}, flat=True)

    ignored = [name for name in folders if name not in SPLITS]
    if ignored:
        log.warning("%s: ignoring %s; the folders of a dataset are train, val, test", root, ", ".join(ignored))
    classes = _classes(root / "train", _subfolders(root / "train"))
    groups = {}
    for split in present:
        found = _subfolders(root / split)
        if split == "test" and not found:
            groups[split] = _unlabelled(root, split)
            continue
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise UserError(
                f"{(root / split).absolute()} has a class '{unknown[0]}' that train lacks; "
                f"its classes are {', '.join(classes)} (data.root)"
            )
        groups[split] = _labelled(root, f"{split}/", found, classes)
    return Layout(classes, groups, flat=False)


def list_images(folder: Path, prefix: str) -> list[ImageFile]:
    """The image files directly in a folder, sorted by name.

    Args:
        folder: where to look.
        prefix: put before each name.
    """
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            extension = os.path.splitext(entry.name)[1].lower()
            if extension in EXTENSIONS and not entry.name.startswith(".") and entry.is_file():
                status = entry.stat()
                files.append(ImageFile(prefix + entry.name, status.st_size, status.st_mtime_ns))
    return sorted(files, key=lambda file: file.name)


def _subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones and those that archives of macOS leave behind."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__")))


def _classes(folder: Path, found: Sequence[str]) -> tuple[str, ...]:
    if not found:
        raise UserError(f"{folder.absolute()} holds no folders of classes (data.root)")
    if len(found) == 1:
        raise UserError(
            f"{folder.absolute()} holds only one class, '{found[0]}', and there is nothing to tell apart; "
            f"two folders are needed at least (data.root)"
        )
    return tuple(found)


def _labelled(root: Path, prefix: str, found: Sequence[str], classes: Sequence[str]) -> Group:
    files, labels = [], []
    for name in found:
        images = list_images(root / prefix / name, f"{prefix}{name}/")
        if not images:
            raise UserError(
                f"the class folder {(root / prefix / name).absolute()} holds no images; "
                f"known are {', '.join(sorted(EXTENSIONS))} (data.root)"
            )
        files += images
        labels += [classes.index(name)] * len(images)
    if not files:
        raise UserError(f"{(root / prefix).absolute()} holds no folders of classes (data.root)")
    return Group(files, labels)


def _unlabelled(root: Path, split: str) -> Group:
    files = list_images(root / split, f"{split}/")
    if not files:
        raise UserError(f"{(root / split).absolute()} holds no images (data.root)")
    return Group(files, None)
