"""What a run is about: its classes, its normalisation, and digests of its images, by which it finds them again.

The path of a folder says little: a class is renamed, a file is added, and every label or every split is another one.
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

_NAMED = 3  # files that a message names
_PIXELS, _SIZES = "pixels", "names and sizes of files"


@dataclass(frozen=True)
class SplitIdentity:
    """What is known of the images of a split.

    Attributes:
        images: how many there are.
        digest: of the images and their labels, in order.
        of: what stands for an image in the digest: its decoded pixels, or, where the images stay on disk, the name and
            the size of its file.
    """

    images: int
    digest: str
    of: str


@dataclass(frozen=True)
class FileList:
    """The n images of a split that are files.

    Attributes:
        names: relative to the folder of the data set.
        labels: indices into the classes; None for unlabelled images.
        sizes: in bytes.
        digests: of each image, as `SplitIdentity.of` says.
    """

    names: list[str]
    labels: list[int] | None
    sizes: list[int]
    digests: list[str]


@dataclass(frozen=True)
class Identity:
    """What a run is about on the side of the data.

    Attributes:
        classes: names, in the order of the labels.
        mean, std: per channel, with which images are normalised.
        channels, image_size: of an image.
        splits: `train`, `val` and, where there is one, `test`.
        files: the files of each split; None for data that are not files of their own.
        pillow: version of the library that decoded the files.
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
        """What a network has to know of the images."""
        return ImageSpec(self.channels, self.image_size, self.classes)

    @classmethod
    def from_json(cls, said: Mapping[str, Any], files: Mapping[str, Any] | None) -> "Identity":
        """The identity that was written as plain JSON.

        Args:
            said: `dataclasses.asdict` of the identity, without its files.
            files: the same of the files of each split, if the images are files.
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
    """The identity of a data set in host memory: all of its images, not only those that one process holds."""
    splits, files = {}, {}
    for name, split in _present(loaded).items():
        digests = _image_digests(split, loaded.on_disk)
        labels = None if split.labels is None else split.labels[split.indices]
        whole = hashlib.blake2b(bytes.fromhex("".join(digests)), digest_size=16)
        whole.update(b"" if labels is None else labels.numpy().tobytes())
        splits[name] = SplitIdentity(len(split), whole.hexdigest(), _SIZES if loaded.on_disk else _PIXELS)
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


class KnownSource:
    """The data that a run has had, read again: the same images in the same splits, or none.

    Args:
        source: as the configuration of the run describes it.
        identity: of the run's data.
    """

    def __init__(self, source: Source, identity: Identity) -> None:
        self.source = source
        self.identity = identity

    def spec(self) -> ImageSpec:
        """That of the run; the data need not be there."""
        return self.identity.spec

    def load(self) -> Splits:
        """Read the images of the run, with its mean and std; further files of a folder are left out.

        Raises:
            UserError: if the data are not there, or differ; the message says in what.
        """
        try:
            loaded = self._load()
        except UserError as error:
            raise UserError(
                f"the data of this run cannot be used: {error}; if they are in another folder, give it (data.root, "
                f"datasets)"
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
            raise UserError(f"{len(missing):,} of its {len(known):,} files are missing, {_some(missing)}")
        further = sorted(found - known)
        if further:
            log.warning("left out: %s files that this run did not have, %s", f"{len(further):,}", _some(further))
        return self.source.load_files(layout, {name: (files[name].names, files[name].labels) for name in files})

    def _compare_classes(self, found: Sequence[str], may_have_more: bool) -> None:
        wanted = self.identity.classes
        missing = [name for name in wanted if name not in found]
        if missing or (not may_have_more and tuple(found) != wanted):
            further = [name for name in found if name not in wanted]
            raise UserError(
                f"its classes were {_some(wanted)}, and the data have {_some(found)}"
                + (f" ({_some(further)} instead of {_some(missing)})" if missing and further else "")
            )

    def _compare(self, now: Identity) -> None:
        """Refuse images that are not those of the run, and name the files that have changed."""
        then = self.identity
        for name, split in then.splits.items():
            found = now.splits.get(name)
            if found == split:
                continue
            files = (then.files or {}).get(name), (now.files or {}).get(name)
            if files[0] is None or files[1] is None:
                raise UserError(
                    f"the {name} images are not those of this run: {split.images:,} with digest {split.digest} then, "
                    + ("none now" if found is None else f"{found.images:,} with digest {found.digest} now")
                    + " (data.root, datasets)"
                )
            self._compare_files(name, files[0], files[1], now.pillow)

    def _compare_files(self, name: str, then: FileList, now: FileList, pillow: str) -> None:
        changed = [
            file for file, before, after in zip(then.names, then.digests, now.digests, strict=True) if before != after
        ]
        if pillow == self.identity.pillow or then.sizes != now.sizes:
            raise UserError(
                f"{len(changed):,} {name} images have changed since this run began, {_some(changed)} (data.root)"
            )
        log.warning(
            "%s %s images have other pixels than this run had, %s; their sizes in bytes are the same, and they were "
            "decoded by Pillow %s then, %s now",
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
    """Sixteen hexadecimal digits for each image of a split."""
    if not on_disk:
        return [found.hex() for found in pixel_digests(split)]
    sizes = split.sizes or [0] * len(split.names)  # reading all pixels would take as long as an epoch
    return [digest(f"{split.names[row]}\n{sizes[row]}".encode()).hex() for row in split.indices.tolist()]


def _some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
