"""Splits, classes and files of a data set folder. No file is opened."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convbench.data.decode import EXTENSIONS
from convbench.data.listing import BROKEN, HIDDEN, Contents, ImageFile, SkippedEntries, read_folder
from convbench.errors import UserError

SPLITS = ("train", "val", "test")
LAYOUTS = ("auto", "flat", "split")

# Common names of the folders of each split, reduced to lower-case letters.
_OTHER_NAMES = {
    "train": ("train", "training", "trainset", "trainingset", "trn"),
    "val": ("val", "valid", "validation", "valset", "validationset", "dev"),
    "test": ("test", "testing", "testset", "testingset", "tst"),
}


@dataclass(frozen=True)
class Group:
    """Files of one split, sorted by class and name, and their labels (None: unlabelled)."""

    files: list[ImageFile]
    labels: list[int] | None


@dataclass(frozen=True)
class Layout:
    """Image files of a data set folder.

    Attributes:
        classes: sorted names of the class folders.
        groups: files of each split that has a folder, in the order train, val, test.
        flat: whether the folder contains only class folders; all images are then in the group `train`.
        left_out: skipped files and folders.
        advice: suggestions to rename folders that are probably meant to be splits.
    """

    classes: tuple[str, ...]
    groups: dict[str, Group]
    flat: bool
    left_out: SkippedEntries
    advice: tuple[str, ...] = ()

    def remarks(self) -> list[str]:
        """Warnings about the folder, one line each."""
        lines = []
        if str(self.left_out):
            lines.append("; ".join([f"skipped {self.left_out}", *self.advice]))
        folded = [_folded(name) for name in self.classes]
        similar = [name for name, key in zip(self.classes, folded, strict=True) if folded.count(key) > 1]
        if similar:
            lines.append(f"classes that differ only in letter case or Unicode normalisation: {', '.join(similar)}")
        return lines


def check_layout(layout: str) -> None:
    """Check the name of a layout.

    Raises:
        UserError: if it is not one of `LAYOUTS`.
    """
    if layout not in LAYOUTS:
        raise UserError(f"data.layout={layout} is not known: choose {', '.join(LAYOUTS)} (data.layout)")


def scan(root: Path, hint: str, layout: str = "auto") -> Layout:
    """Find the image files of a data set folder.

    Args:
        root: root folder of the data set.
        hint: advice that the error message gives if the folder does not exist.
        layout: `split` for folders train, val and test that contain class folders, `flat` for class folders only,
            `auto` for `split` if one of these three folders exists and else `flat`.

    Raises:
        UserError: if the folder is missing or cannot be read, if it has fewer than two classes or a class without
            images, if `val` or `test` has a class that `train` does not have, or if its folders seem to be splits with
            other names.
    """
    try:
        exists = root.is_dir()
    except OSError as error:  # no permission for a parent folder
        raise UserError(
            f"cannot read the folder {root.absolute()} ({error.strerror}): make it readable (data.root)"
        ) from error
    if not exists:
        raise UserError(f"there is no folder {root.absolute()} (data.root): {hint}")
    top, left_out = read_folder(root), SkippedEntries()
    if _is_flat(root, top.folders, layout):
        classes = _classes(root, top, left_out)
        return Layout(classes, {"train": _labelled(root, "", classes, classes, left_out)}, True, left_out)

    left_out.add("folders other than train, val and test", [name for name in top.folders if name not in SPLITS])
    left_out.add("images outside train, val and test", [file.name for file in top.images])
    present = [name for name in SPLITS if name in top.folders]
    inside = {split: read_folder(root / split, f"{split}/") for split in present}
    if inside["train"].images and not inside["train"].folders:
        raise UserError(
            f"{(root / 'train').absolute()} contains images, but no class folders; put each image into a folder of "
            f"its class, or give data.layout=flat if 'train' is itself a class (data.root)"
        )
    classes = _classes(root / "train", inside["train"], left_out)
    groups = {}
    for split, found in inside.items():
        if split == "test" and not found.folders:
            groups[split] = _unlabelled(root, split, found, left_out)
            continue
        _check_known(root / split, found.folders, classes)
        if split != "train":
            _add_other_entries(found, left_out)
        groups[split] = _labelled(root, f"{split}/", found.folders, classes, left_out)
    misnamed = [name for name in top.folders if name not in SPLITS and _intended_split(name) not in (None, *present)]
    return Layout(classes, groups, False, left_out, tuple(map(_rename, misnamed)))


def _is_flat(root: Path, folders: Sequence[str], layout: str) -> bool:
    """Whether the folders are class folders, and not split folders.

    Raises:
        UserError: if the folder must contain splits, but has no folder `train`.
    """
    if layout == "flat":
        return True
    if "train" in folders:
        return False
    intended = {_intended_split(name) for name in folders} - {None}
    look_like_splits = "train" in intended and len(intended) > 1
    if layout == "auto" and not look_like_splits and not set(folders) & set(SPLITS):
        return True
    names = ", ".join(f"'{name}'" for name in folders)
    contents = f"contains {names}, but no folder 'train'" if names else "contains no folders"
    advice = [_rename(name) for name in folders if name not in SPLITS and _intended_split(name) is not None]
    advice = advice or ["add a folder 'train'"]
    raise UserError(
        f"{root.absolute()} {contents}: {', '.join(advice)}, or give data.layout=flat if each folder is a class "
        "(data.root)"
    )


def _intended_split(name: str) -> str | None:
    """The split that the name of a folder probably means."""
    letters = re.sub("[^a-z]", "", name.casefold())
    return next((split for split, names in _OTHER_NAMES.items() if letters in names), None)


def _rename(name: str) -> str:
    return f"rename '{name}' to '{_intended_split(name)}'"


def _classes(folder: Path, found: Contents, left_out: SkippedEntries) -> tuple[str, ...]:
    """Names of the class folders; other entries of the folder are added to `left_out`."""
    if not found.folders:
        raise UserError(f"{folder.absolute()} contains no class folders (data.root)")
    if len(found.folders) == 1:
        raise UserError(
            f"{folder.absolute()} contains only one class folder, '{found.folders[0]}'; add at least one more "
            f"class (data.root)"
        )
    _add_other_entries(found, left_out)
    return tuple(found.folders)


def _add_other_entries(found: Contents, left_out: SkippedEntries) -> None:
    """Add the entries next to class folders to `left_out`, except files such as lists of labels, which are expected."""
    left_out.add("images outside class folders", [file.name for file in found.images])
    for kind in (HIDDEN, BROKEN):
        left_out.add(kind, found.left_out.names.get(kind, []))


def _check_known(folder: Path, found: Sequence[str], classes: Sequence[str]) -> None:
    unknown = sorted(set(found) - set(classes))
    if not unknown:
        return
    similar = next((name for name in classes if _folded(name) == _folded(unknown[0])), None)
    if similar is not None:
        raise UserError(
            f"{folder.absolute()} has a class '{unknown[0]}' and train has '{similar}', which differs only in letter "
            f"case or Unicode normalisation: give both folders the same name (data.root)"
        )
    raise UserError(
        f"{folder.absolute()} has a class '{unknown[0]}' that train does not have; the classes of train are "
        f"{', '.join(classes)} (data.root)"
    )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _labelled(root: Path, prefix: str, found: Sequence[str], classes: Sequence[str], left_out: SkippedEntries) -> Group:
    files, labels = [], []
    for name in found:
        inside = read_folder(root / prefix / name, f"{prefix}{name}/")
        inside.left_out.add("folders inside class folders", [f"{prefix}{name}/{folder}" for folder in inside.folders])
        if not inside.images:
            skipped = f", only {inside.left_out}" if str(inside.left_out) else ""
            raise UserError(
                f"the class folder {(root / prefix / name).absolute()} contains no images{skipped}; "
                f"supported extensions are {', '.join(sorted(EXTENSIONS))} (data.root)"
            )
        left_out.update(inside.left_out)
        files += inside.images
        labels += [classes.index(name)] * len(inside.images)
    if not files:
        raise UserError(f"{(root / prefix).absolute()} contains no class folders (data.root)")
    return Group(files, labels)


def _unlabelled(root: Path, split: str, found: Contents, left_out: SkippedEntries) -> Group:
    if not found.images:
        raise UserError(f"{(root / split).absolute()} contains no images (data.root)")
    left_out.update(found.left_out)
    return Group(found.images, None)
