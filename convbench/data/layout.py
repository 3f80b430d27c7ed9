"""Which image files a dataset folder holds, of which split and class; opens none of them."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convbench.data.decode import EXTENSIONS
from convbench.data.listing import BROKEN, HIDDEN, Contents, ImageFile, LeftOut, read_folder
from convbench.errors import UserError

SPLITS = ("train", "val", "test")
LAYOUTS = ("auto", "flat", "split")

# What the folders of splits are called elsewhere, in lower case and without anything but letters.
_OTHER_NAMES = {
    "train": ("train", "training", "trainset", "trainingset", "trn"),
    "val": ("val", "valid", "validation", "valset", "validationset", "dev"),
    "test": ("test", "testing", "testset", "testingset", "tst"),
}


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
        left_out: what was found and not taken.
        advice: what to rename for a folder to be taken as the split that it looks like.
    """

    classes: tuple[str, ...]
    groups: dict[str, Group]
    flat: bool
    left_out: LeftOut
    advice: tuple[str, ...] = ()

    def remarks(self) -> list[str]:
        """What a user should know of the folder before the images are used: a line each."""
        lines = []
        if str(self.left_out):
            lines.append("; ".join([f"left out {self.left_out}", *self.advice]))
        folded = [_folded(name) for name in self.classes]
        twins = [name for name, plain in zip(self.classes, folded, strict=True) if folded.count(plain) > 1]
        if twins:
            lines.append(f"classes that differ only in upper and lower case or in Unicode form: {', '.join(twins)}")
        return lines


def check_layout(layout: str) -> None:
    """Refuse a layout that does not exist.

    Raises:
        UserError: if it is none of `LAYOUTS`.
    """
    if layout not in LAYOUTS:
        raise UserError(f"data.layout={layout} is not known: choose {', '.join(LAYOUTS)} (data.layout)")


def scan(root: Path, hint: str, layout: str = "auto") -> Layout:
    """Find the images of a dataset folder.

    Args:
        root: the folder.
        hint: appended to the message if it does not exist.
        layout: `split` for the folders train, val and test above those of the classes, `flat` for class folders alone;
            `auto` decides by whether one of the three exists.

    Raises:
        UserError: if the folder is missing or cannot be read, has no or only one class, or a class without images, if
            `val` or `test` has a class that `train` lacks, or if its folders look like splits under other names.
    """
    try:
        is_there = root.is_dir()
    except OSError as error:  # a folder above it may not be entered
        raise UserError(
            f"cannot look into {root.absolute()} ({error.strerror}): make it readable (data.root)"
        ) from error
    if not is_there:
        raise UserError(f"there is no folder {root.absolute()} (data.root): {hint}")
    top, left_out = read_folder(root), LeftOut()
    if _is_flat(root, top.folders, layout):
        classes = _classes(root, top, left_out)
        return Layout(classes, {"train": _labelled(root, "", classes, classes, left_out)}, True, left_out)

    left_out.add("folders beside train, val and test", [name for name in top.folders if name not in SPLITS])
    left_out.add("images beside train, val and test", [file.name for file in top.images])
    present = [name for name in SPLITS if name in top.folders]
    inside = {split: read_folder(root / split, f"{split}/") for split in present}
    if inside["train"].images and not inside["train"].folders:
        raise UserError(
            f"{(root / 'train').absolute()} holds images, but no folders of classes (data.root); if 'train' is one of "
            f"the classes, give data.layout=flat"
        )
    classes = _classes(root / "train", inside["train"], left_out)
    groups = {}
    for split, found in inside.items():
        if split == "test" and not found.folders:
            groups[split] = _unlabelled(root, split, found, left_out)
            continue
        _check_known(root / split, found.folders, classes)
        if split != "train":
            _note_beside(found, left_out)
        groups[split] = _labelled(root, f"{split}/", found.folders, classes, left_out)
    unused = [name for name in top.folders if name not in SPLITS and _meant(name) not in (None, *present)]
    return Layout(classes, groups, False, left_out, tuple(map(_rename, unused)))


def _is_flat(root: Path, folders: Sequence[str], layout: str) -> bool:
    """Whether the folders are those of the classes.

    Raises:
        UserError: if they are neither classes, by the look of their names, nor splits with one called train.
    """
    if layout == "flat":
        return True
    if "train" in folders:
        return False
    meant = {_meant(name) for name in folders} - {None}
    look_like_splits = "train" in meant and len(meant) > 1
    if layout == "auto" and not look_like_splits and not set(folders) & set(SPLITS):
        return True
    names = ", ".join(f"'{name}'" for name in folders) or "nothing"
    renamed = [_rename(name) for name in folders if name not in SPLITS and _meant(name) is not None]
    raise UserError(
        f"{root.absolute()} has no folder called 'train' but {names} (data.root): "
        f"{''.join(f'{one}, ' for one in renamed)}or give data.layout=flat if each of them is a class"
    )


def _meant(name: str) -> str | None:
    """The split that a folder's name seems to mean, whatever its case."""
    letters = re.sub("[^a-z]", "", name.casefold())
    return next((split for split, names in _OTHER_NAMES.items() if letters in names), None)


def _rename(name: str) -> str:
    return f"rename '{name}' to '{_meant(name)}'"


def _classes(folder: Path, found: Contents, left_out: LeftOut) -> tuple[str, ...]:
    """The names of the class folders; notes what lies beside them."""
    if not found.folders:
        raise UserError(f"{folder.absolute()} holds no folders of classes (data.root)")
    if len(found.folders) == 1:
        raise UserError(
            f"{folder.absolute()} holds only one class, '{found.folders[0]}', and there is nothing to tell apart; "
            f"two folders are needed at least (data.root)"
        )
    _note_beside(found, left_out)
    return tuple(found.folders)


def _note_beside(found: Contents, left_out: LeftOut) -> None:
    """Note what lies beside class folders; files of other kinds, such as a list of labels, are at home there."""
    left_out.add("images beside the folders of classes", [file.name for file in found.images])
    for kind in (HIDDEN, BROKEN):
        left_out.add(kind, found.left_out.names.get(kind, []))


def _check_known(folder: Path, found: Sequence[str], classes: Sequence[str]) -> None:
    unknown = sorted(set(found) - set(classes))
    if not unknown:
        return
    twin = next((name for name in classes if _folded(name) == _folded(unknown[0])), None)
    if twin is not None:
        raise UserError(
            f"{folder.absolute()} has a class '{unknown[0]}' where train has '{twin}', which differs in upper and "
            f"lower case or in the Unicode form of its letters: give both folders one name (data.root)"
        )
    raise UserError(
        f"{folder.absolute()} has a class '{unknown[0]}' that train lacks; its classes are {', '.join(classes)} "
        f"(data.root)"
    )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _labelled(root: Path, prefix: str, found: Sequence[str], classes: Sequence[str], left_out: LeftOut) -> Group:
    files, labels = [], []
    for name in found:
        inside = read_folder(root / prefix / name, f"{prefix}{name}/")
        inside.left_out.add(
            "folders inside those of classes", [f"{prefix}{name}/{folder}" for folder in inside.folders]
        )
        if not inside.images:
            rest = f" (left out: {inside.left_out})" if str(inside.left_out) else ""
            raise UserError(
                f"the class folder {(root / prefix / name).absolute()} holds no images{rest}; "
                f"known are {', '.join(sorted(EXTENSIONS))} (data.root)"
            )
        left_out.update(inside.left_out)
        files += inside.images
        labels += [classes.index(name)] * len(inside.images)
    if not files:
        raise UserError(f"{(root / prefix).absolute()} holds no folders of classes (data.root)")
    return Group(files, labels)


def _unlabelled(root: Path, split: str, found: Contents, left_out: LeftOut) -> Group:
    if not found.images:
        raise UserError(f"{(root / split).absolute()} holds no images (data.root)")
    left_out.update(found.left_out)
    return Group(found.images, None)
