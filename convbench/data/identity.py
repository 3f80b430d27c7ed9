"""Record of the data of a run: classes, normalisation and digests of the images, to check that they are unchanged.

The path of a folder is not enough: if a class is renamed or a file is added, all labels or all splits may change.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import PIL

from convbench.data.digests import digest, pixel_digests
from convbench.data.folder import Folder
from convbench.data.types import ImageSpec, Source, Split, Splits
from convbench.errors import UserError

log = logging.getLogger("convbench")

_EXAMPLES = 3  # names in a message
_PIXELS, _SIZES = "pixels", "names and sizes of files"


@dataclass(frozen=True)
class SplitIdentity:
    """Number and digest of the images of a split.

    Attributes:
        images: number of images.
        digest: hash of the images and their labels, in order, in hexadecimal digits.
        of: content of an image that is hashed: the decoded pixels, or the name and size of the file if the images stay
            on disk.
    """

    images: int
    digest: str
    of: str


@dataclass(frozen=True)
class FileList:
    """The n image files of a split.

    Attributes:
        names: paths relative to the root folder of the data set.
        labels: indices into the classes; None for unlabelled images.
        sizes: sizes of the files in bytes.
        digests: hash of each image, of the content that `SplitIdentity.of` describes.
    """

    names: list[str]
    labels: list[int] | None
    sizes: list[int]
    digests: list[str]


@dataclass(frozen=True)
class Identity:
    """Record of the data of a run.

    Attributes:
        classes: class names, in the order of the labels.
        mean, std: mean and standard deviation per channel that normalise the images.
        channels: number of channels of an image.
        image_size: H = W in pixels.
        splits: number and digest of the images of `train`, `val` and, if there is one, `test`.
        files: image files of each split; None if the images are not separate files.
        pillow: version of Pillow, the library that decoded the files.
    """

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    image_size: int
    splits: dict[str, SplitIdentity]
    files: dict[str, FileList] | None
    pillow: str

    @property
    def spec(self) -> ImageSpec:
        """Number of channels, size and classes of the images."""
        return ImageSpec(self.channels, self.image_size, self.classes)

    @classmethod
    def from_json(cls, said: Mapping[str, Any], files: Mapping[str, Any] | None) -> "Identity":
        """Read an identity from the dictionaries of a JSON file.

        Args:
            said: `dataclasses.asdict` of the identity, without the key `files`.
            files: `dataclasses.asdict` of the `FileList` of each split; None if the images are not separate files.
        """
        return cls(
            classes=tuple(said["classes"]),
            mean=tuple(said["mean"]),
            std=tuple(said["std"]),
            channels=said["channels"],
            image_size=said["image_size"],
            splits={name: SplitIdentity(**split) for name, split in said["splits"].items()},
            files=None if files is None else {name: FileList(**listed) for name, listed in files.items()},
            pillow=said["pillow"],
        )


def identify(spec: ImageSpec, loaded: Splits) -> Identity:
    """Compute the identity of a complete data set in host memory, before it is sharded over the processes."""
    splits, files = {}, {}
    for name, split in _present(loaded).items():
        digests = _image_digests(split, loaded.on_disk)
        labels = None if split.labels is None else split.labels[split.indices]
        split_hash = hashlib.blake2b(bytes.fromhex("".join(digests)), digest_size=16)
        split_hash.update(b"" if labels is None else labels.numpy().tobytes())
        splits[name] = SplitIdentity(len(split), split_hash.hexdigest(), _SIZES if loaded.on_disk else _PIXELS)
        if split.sizes is not None:
            rows = split.indices.tolist()
            files[name] = FileList(
                names=[split.names[row] for row in rows],
                labels=None if labels is None else labels.tolist(),
                sizes=[split.sizes[row] for row in rows],
                digests=digests,
            )
    return Identity(
        classes=spec.classes,
        mean=tuple(loaded.mean),
        std=tuple(loaded.std),
        channels=spec.channels,
        image_size=spec.image_size,
        splits=splits,
        files=files or None,
        pillow=PIL.__version__,
    )


class RecordedSource:
    """Source that delivers exactly the images and splits that a run was trained with, or raises an error.

    Args:
        source: source that the configuration of the run describes.
        identity: recorded identity of the data of the run.
    """

    def __init__(self, source: Source, identity: Identity) -> None:
        self.source = source
        self.identity = identity

    def spec(self) -> ImageSpec:
        """Recorded specification of the images; it does not require the data."""
        return self.identity.spec

    def load(self) -> Splits:
        """Read the images of the run with the recorded mean and std; files that were added later are skipped.

        Raises:
            UserError: if the data are missing or differ from the record; the message names the difference.
        """
        try:
            loaded = self._load()
        except UserError as error:
            raise UserError(
                f"the data of this run cannot be used: {error}; if they are in another folder, give that folder "
                f"(data.root, datasets)"
            ) from error
        loaded = replace(loaded, mean=self.identity.mean, std=self.identity.std)
        self._compare(identify(self.identity.spec, loaded))
        return loaded

    def _load(self) -> Splits:
        files = self.identity.files
        if files is None or not isinstance(self.source, Folder):
            self._compare_classes(self.source.spec().classes, may_have_more=False)
            return self.source.load()
        layout = self.source.scan()
        self._compare_classes(layout.classes, may_have_more=True)
        found = {file.name for group in layout.groups.values() for file in group.files}
        known = {name for listed in files.values() for name in listed.names}
        missing = sorted(known - found)
        if missing:
            raise UserError(f"{len(missing):,} of its {len(known):,} files are missing: {_some(missing)}")
        added = sorted(found - known)
        if added:
            log.warning("skipped %s files that were added after this run: %s", f"{len(added):,}", _some(added))
        return self.source.load_files(layout, {name: (files[name].names, files[name].labels) for name in files})

    def _compare_classes(self, found: Sequence[str], may_have_more: bool) -> None:
        expected = self.identity.classes
        missing = [name for name in expected if name not in found]
        if missing or (not may_have_more and tuple(found) != expected):
            added = [name for name in found if name not in expected]
            raise UserError(
                f"the run had the classes {_some(expected)}, but the data have {_some(found)}"
                + (f" ({_some(added)} instead of {_some(missing)})" if missing and added else "")
            )

    def _compare(self, current: Identity) -> None:
        """Compare the current images with those of the run.

        Raises:
            UserError: if the images differ; the message names the files that have changed.
        """
        recorded = self.identity
        for name, split in recorded.splits.items():
            found = current.splits.get(name)
            if found == split:
                continue
            files = (recorded.files or {}).get(name), (current.files or {}).get(name)
            if files[0] is None or files[1] is None:
                raise UserError(
                    f"the {name} images differ from those of this run: the run had {split.images:,} with digest "
                    f"{split.digest}, now there are "
                    + ("none" if found is None else f"{found.images:,} with digest {found.digest}")
                    + " (data.root, datasets)"
                )
            self._compare_files(name, files[0], files[1], current.pillow)

    def _compare_files(self, name: str, recorded: FileList, current: FileList, pillow: str) -> None:
        changed = [
            file
            for file, before, after in zip(recorded.names, recorded.digests, current.digests, strict=True)
            if before != after
        ]
        if pillow == self.identity.pillow or recorded.sizes != current.sizes:
            raise UserError(
                f"{len(changed):,} {name} images have changed since the start of this run: {_some(changed)} (data.root)"
            )
        log.warning(
            "%s %s images have other pixels than in this run: %s; their file sizes are unchanged, but the run decoded "
            "them with Pillow %s, and the installed version is %s",
            f"{len(changed):,}",
            name,
            _some(changed),
            self.identity.pillow,
            pillow,
        )


def _present(splits: Splits) -> dict[str, Split]:
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: split for name, split in parts.items() if split is not None}


def _image_digests(split: Split, on_disk: bool) -> list[str]:
    """Hash of each image of a split, sixteen hexadecimal digits each."""
    if not on_disk:
        return [found.hex() for found in pixel_digests(split)]
    sizes = split.sizes or [0] * len(split.names)  # hashing all pixels would take as long as an epoch
    return [digest(f"{split.names[row]}\n{sizes[row]}".encode()).hex() for row in split.indices.tolist()]


def _some(names: Sequence[str]) -> str:
    """Format the first few names for a message."""
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
