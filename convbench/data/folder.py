"""Data sets of image files: one folder per class, with or without a level of folders for the splits."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from convbench.data.cache import TensorCache
from convbench.data.decode import decode_files
from convbench.data.duplicates import warn_about_duplicates
from convbench.data.layout import Layout, check_layout, scan
from convbench.data.listing import ImageFile, SkippedEntries, read_folder
from convbench.data.normalisation import check_statistics, given_or_computed
from convbench.data.pixels import check_value_range
from convbench.data.split import check_fraction, stratified_split
from convbench.data.types import ImageSpec, Split, Splits
from convbench.errors import UserError

log = logging.getLogger("convbench")


class Folder:
    """Images in `root/{train,val,test}/CLASS/`, or in `root/CLASS/`, which are then split at random.

    Without a folder `val` the validation images are taken from `train`. Without a folder `test` there is no test split;
    if `root` contains only class folders, its images are divided into all three splits. The random split is stratified
    and determined by `split_seed`. The folder `test` may contain images without class folders; they are unlabelled.

    Args:
        root: root folder of the data set.
        image_size: H = W in pixels; `decode_files` describes the resizing.
        channels: 3 for RGB, 1 for greyscale.
        val_fraction, test_fraction: fractions of all images for the splits; unused if a split has its own folder.
        split_seed: seed of the split; it is independent of the seed of the run, so that all runs share the test images.
        mean, std: mean and standard deviation of the training images per channel; None to compute them.
        flip: whether a mirrored image is a valid image; the augmentation reads it.
        cache: folder for decoded images; None for no cache. The next run then starts in a fraction of a second. All
            images are decoded again if a file was added, removed or changed (size or time).
        layout: `split` for split folders that contain class folders, `flat` for class folders only, `auto` for `split`
            if a folder named train, val or test exists and else `flat`.
        value_range: values of black and white in images of more than 8 bits; None for those of the file format, 0 and
            65535 for unsigned 16-bit images.
        on_disk: whether to map the cache file of the decoded images into memory, for data sets larger than the memory.
        hint: advice in the error message if `root` does not exist.

    Raises:
        UserError: if an argument is out of range.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        channels: int,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        flip: bool,
        cache: str | None,
        on_disk: bool,
        hint: str,
        layout: str = "auto",  # defaults as in the yaml file, for runs recorded before these keys existed
        value_range: Sequence[float] | None = None,
    ) -> None:
        check_size(image_size, channels)
        check_fraction(val_fraction, "data.val_fraction")
        check_fraction(test_fraction, "data.test_fraction")
        check_statistics(mean, std, channels)
        check_layout(layout)
        self.root = Path(root)
        self.image_size = image_size
        self.channels = channels
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed = split_seed
        self.mean, self.std = mean, std
        self.flip = flip
        self.cache = None if cache is None else Path(cache)
        self.on_disk = on_disk
        self.hint = hint
        self.layout = layout
        self.value_range = check_value_range(value_range)

    def spec(self) -> ImageSpec:
        """Specification of the images; the classes are the sorted names of the class folders.

        Raises:
            UserError: if the folder is missing, a class is empty, or there is only one class.
        """
        return ImageSpec(self.channels, self.image_size, self.scan().classes)

    def scan(self) -> Layout:
        """Find the image files of the data set.

        Raises:
            UserError: in the same cases as `spec`.
        """
        return scan(self.root, self.hint, self.layout)

    def load(self) -> Splits:
        """Decode all images, or read them from the cache.

        Raises:
            UserError: in the same cases as `spec`, and if an image is corrupt; the message names the file.
        """
        layout = self.scan()
        for remark in layout.remarks():
            log.warning("%s: %s", self.root, remark)
        files = [file for group in layout.groups.values() for file in group.files]
        images = self._decode(files)
        found: dict[str, Split] = {}
        start = 0
        for name, group in layout.groups.items():
            rows = slice(start, start + len(group.files))
            start = rows.stop
            labels = None if group.labels is None else torch.tensor(group.labels)
            names = [file.name for file in group.files]
            sizes = [file.size for file in group.files]
            found[name] = Split(images[rows], labels, torch.arange(len(names)), names, sizes)

        splits = self._add_missing_splits(found, layout)
        if not self.on_disk:  # the check reads all pixels, which takes too long for large data sets
            warn_about_duplicates(str(self.root), splits)
        mean, std = given_or_computed(self.mean, self.std, splits["train"].images, splits["train"].indices)
        return Splits(splits["train"], splits["val"], splits.get("test"), mean, std, self.on_disk)

    def load_files(self, layout: Layout, wanted: Mapping[str, tuple[Sequence[str], Sequence[int] | None]]) -> Splits:
        """Decode given files into given splits and ignore all other files of the folder.

        Args:
            layout: result of `scan`.
            wanted: for each split, the names of its files in order, and their labels (None: unlabelled).

        Raises:
            UserError: if an image is corrupt; the message names the file.
        """
        names = {name for names, _ in wanted.values() for name in names}
        # The cache file stores the images in the order of the folder.
        files = [file for group in layout.groups.values() for file in group.files if file.name in names]
        images = self._decode(files)
        rows = {file.name: row for row, file in enumerate(files)}
        splits: dict[str, Split] = {}
        for split, (split_names, split_labels) in wanted.items():
            indices = torch.tensor([rows[name] for name in split_names])
            labels = None
            if split_labels is not None:
                labels = torch.zeros(len(files), dtype=torch.int64)
                labels[indices] = torch.tensor(split_labels)
            splits[split] = Split(images, labels, indices, [file.name for file in files], [file.size for file in files])
        mean, std = given_or_computed(self.mean, self.std, images, splits["train"].indices)
        return Splits(splits["train"], splits["val"], splits.get("test"), mean, std, self.on_disk)

    def _add_missing_splits(self, found: dict[str, Split], layout: Layout) -> dict[str, Split]:
        """Take the splits without a folder from the training images; these splits share one tensor."""
        fractions = {}
        if "val" not in found:
            fractions["val"] = self.val_fraction
        if layout.flat:
            fractions["test"] = self.test_fraction
        source = found["train"]
        if not fractions or source.labels is None:
            return found
        keys = [f"data.{name}_fraction" for name in fractions]
        parts = stratified_split(source.labels, list(fractions.values()), self.split_seed, layout.classes, keys)
        names = ("train", *fractions)
        return {**found, **{name: replace(source, indices=rows) for name, rows in zip(names, parts, strict=True)}}

    def _decode(self, files: Sequence[ImageFile]) -> Tensor:
        """Pixels of all files, from the cache if it is up to date."""
        if self.cache is None:
            if self.on_disk:
                raise UserError("data.on_disk=true needs a cache folder for the decoded images; give one (data.cache)")
            return self._decode_files(files)
        # The key contains everything that determines the pixels: the library, the options and the files.
        options = [self.image_size, self.channels, self.value_range]
        key = [PIL.__version__, *options, [(file.name, file.size, file.time) for file in files]]
        slot = json.dumps([os.path.realpath(self.root), *options, self.layout])
        cache = TensorCache(self.cache, slot, json.dumps(key))
        if self.on_disk:
            return self._map(cache, files)
        images = cache.read()
        if images is None:
            images = self._decode_files(files)
            cache.write(images)
        return images

    def _decode_files(self, files: Sequence[ImageFile], into: np.ndarray | None = None) -> Tensor:
        names = [file.name for file in files]
        return decode_files(self.root, names, self.image_size, self.channels, self.value_range, into)

    def _map(self, cache: TensorCache, files: Sequence[ImageFile]) -> Tensor:
        """Memory-mapped pixels of all files, decoded into the cache file first if it is not up to date."""
        images = cache.map()
        if images is None:
            shape = (len(files), self.channels, self.image_size, self.image_size)
            try:
                cache.fill(shape, lambda rows: self._decode_files(files, rows))
            except OSError as error:
                raise UserError(
                    f"cannot write the decoded images to {self.cache} ({error}); give a writable folder (data.cache)"
                ) from error
            images = cache.map()
        assert images is not None  # the file has just been written
        return images


def load_images(
    folder: str, image_size: int, channels: int, value_range: Sequence[float] | None = None
) -> tuple[Tensor, list[str]]:
    """Decode the unlabelled images of a folder.

    Args:
        folder: the folder; subfolders and files that are not images are skipped with a warning.
        image_size: H = W in pixels; see `decode_files`.
        channels: 3 for RGB, 1 for greyscale.
        value_range: values of black and white in images of more than 8 bits; None for the range of the file format.

    Returns:
        uint8 `(N, C, H, W)` and the N file names, sorted.

    Raises:
        UserError: if the folder is missing or contains no images, or an image is corrupt.
    """
    check_size(image_size, channels)
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"there is no folder {path.absolute()}; give a folder of images (images)")
    found = read_folder(path)
    names = [file.name for file in found.images]
    left_out = SkippedEntries(found.left_out.names | {"subfolders": found.folders})
    if not names:
        skipped = f", only {left_out}" if str(left_out) else ""
        raise UserError(f"{path.absolute()} contains no images{skipped}; give a folder of images (images)")
    if str(left_out):
        log.warning("%s: skipped %s", folder, left_out)
    return decode_files(path, names, image_size, channels, check_value_range(value_range)), names


def check_size(image_size: int, channels: int) -> None:
    """Check the size and the number of channels of the images.

    Raises:
        UserError: if the size is not positive, or the number of channels is neither 1 nor 3.
    """
    if image_size < 1:
        raise UserError(f"data.image_size={image_size} is not an image size: choose 1 pixel or more (data.image_size)")
    if channels not in (1, 3):
        raise UserError(
            f"data.channels={channels} is not supported: choose 3 for RGB or 1 for greyscale (data.channels)"
        )
