"""Image folders: one folder per class, with or without folders for the splits above them."""

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
from convbench.data.copies import warn_of_copies
from convbench.data.decode import decode_files
from convbench.data.layout import Layout, check_layout, scan
from convbench.data.listing import ImageFile, LeftOut, read_folder
from convbench.data.normalisation import check_statistics, given_or_computed
from convbench.data.pixels import check_value_range
from convbench.data.split import check_fraction, stratified_split
from convbench.data.types import ImageSpec, Split, Splits
from convbench.errors import UserError

log = logging.getLogger("convbench")


class Folder:
    """Images in `root/{train,val,test}/CLASS/`, or in `root/CLASS/` to be split here.

    Without `val` the validation images are cut from `train`; without `test` there is no test split, except that class
    folders alone are cut into all three. The cut is stratified, and fixed by `split_seed`. Images of `test` may lie
    there without class folders; they are unlabelled then.

    Args:
        root: the folder.
        image_size: H = W in pixels; see `decode_files` for how images get there.
        channels: 3 for RGB, 1 for grey.
        val_fraction, test_fraction: shares of all images that are cut; unused where the split has its own folder.
        split_seed: of the cut; not that of the run, so that every run has the same test images.
        mean, std: per channel, of the training images; None to compute them.
        flip: whether a mirrored image is still a valid one; read by the augmentation.
        cache: folder for decoded images; None for no cache. A second start then takes a fraction of a second; a
            file that was added, removed or changed (size or time) has all of them decoded anew.
        layout: `split` for folders of the splits above those of the classes, `flat` for class folders alone, `auto` to
            go by whether there is a folder called train, val or test.
        value_range: values of black and white in images of more than 8 bits; None for those that the format fixes, 0
            and 65535 for 16 bits without a sign.
        on_disk: leave the decoded images in the cache's file, mapped into memory: for more of them than memory holds.
        hint: what to tell a user whose `root` does not exist.

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
        layout: str = "auto",  # as in the yaml: runs that were recorded before there were these keys go on
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
        """Size and channels as configured; classes are the sorted names of the class folders.

        Raises:
            UserError: if the folder is missing, a class is empty, or there is only one.
        """
        return ImageSpec(self.channels, self.image_size, self.scan().classes)

    def scan(self) -> Layout:
        """The files of the folder.

        Raises:
            UserError: as `spec`.
        """
        return scan(self.root, self.hint, self.layout)

    def load(self) -> Splits:
        """Decode all images, or read them from the cache.

        Raises:
            UserError: as `spec`, and if an image is corrupt; the message names it.
        """
        layout = self.scan()
        for remark in layout.remarks():
            log.warning("%s: %s", self.root, remark)
        files = [file for group in layout.groups.values() for file in group.files]
        images = self._decode(files)
        whole: dict[str, Split] = {}
        start = 0
        for name, group in layout.groups.items():
            rows = slice(start, start + len(group.files))
            start = rows.stop
            labels = None if group.labels is None else torch.tensor(group.labels)
            names = [file.name for file in group.files]
            sizes = [file.size for file in group.files]
            whole[name] = Split(images[rows], labels, torch.arange(len(names)), names, sizes)

        splits = self._cut(whole, layout)
        if not self.on_disk:  # there may be more images than can be read through at every start
            warn_of_copies(str(self.root), splits)
        mean, std = given_or_computed(self.mean, self.std, splits["train"].images, splits["train"].indices)
        return Splits(splits["train"], splits["val"], splits.get("test"), mean, std, self.on_disk)

    def load_files(self, layout: Layout, wanted: Mapping[str, tuple[Sequence[str], Sequence[int] | None]]) -> Splits:
        """Decode given files into given splits, whatever the folder holds beside them.

        Args:
            layout: what `scan` found.
            wanted: for each split the names of its files, in order, and their labels.

        Raises:
            UserError: if an image is corrupt; the message names it.
        """
        names = {name for names, _ in wanted.values() for name in names}
        # In the order of the folder, which is that of the cache.
        files = [file for group in layout.groups.values() for file in group.files if file.name in names]
        images = self._decode(files)
        rows = {file.name: row for row, file in enumerate(files)}
        splits: dict[str, Split] = {}
        for split, (chosen, of_chosen) in wanted.items():
            indices = torch.tensor([rows[name] for name in chosen])
            labels = None
            if of_chosen is not None:
                labels = torch.zeros(len(files), dtype=torch.int64)
                labels[indices] = torch.tensor(of_chosen)
            splits[split] = Split(images, labels, indices, [file.name for file in files], [file.size for file in files])
        mean, std = given_or_computed(self.mean, self.std, images, splits["train"].indices)
        return Splits(splits["train"], splits["val"], splits.get("test"), mean, std, self.on_disk)

    def _cut(self, whole: dict[str, Split], layout: Layout) -> dict[str, Split]:
        """Cut from the training images whichever split has no folder; the parts share one tensor."""
        wanted = {}
        if "val" not in whole:
            wanted["val"] = self.val_fraction
        if layout.flat:
            wanted["test"] = self.test_fraction
        source = whole["train"]
        if not wanted or source.labels is None:
            return whole
        keys = [f"data.{name}_fraction" for name in wanted]
        parts = stratified_split(source.labels, list(wanted.values()), self.split_seed, layout.classes, keys)
        cut = {name: replace(source, indices=indices) for name, indices in zip(("train", *wanted), parts, strict=True)}
        return {**whole, **cut}

    def _decode(self, files: Sequence[ImageFile]) -> Tensor:
        if self.cache is None:
            if self.on_disk:
                raise UserError("data.on_disk=true needs a folder for the file of decoded images (data.cache)")
            return self._decoded(files)
        # Everything that decides the pixels: the files as they are now, what is made of them, and by what.
        made_of_them = [self.image_size, self.channels, self.value_range]
        made_from = [PIL.__version__, *made_of_them, [(f.name, f.size, f.time) for f in files]]
        slot = json.dumps([os.path.realpath(self.root), *made_of_them, self.layout])
        cache = TensorCache(self.cache, slot, json.dumps(made_from))
        if self.on_disk:
            return self._mapped(cache, files)
        images = cache.read()
        if images is None:
            images = self._decoded(files)
            cache.write(images)
        return images

    def _decoded(self, files: Sequence[ImageFile], into: np.ndarray | None = None) -> Tensor:
        names = [file.name for file in files]
        return decode_files(self.root, names, self.image_size, self.channels, self.value_range, into)

    def _mapped(self, cache: TensorCache, files: Sequence[ImageFile]) -> Tensor:
        images = cache.map()
        if images is None:
            shape = (len(files), self.channels, self.image_size, self.image_size)
            try:
                cache.fill(shape, lambda rows: self._decoded(files, rows))
            except OSError as error:
                raise UserError(f"cannot write the decoded images to {self.cache}: {error} (data.cache)") from error
            images = cache.map()
        assert images is not None  # it has just been written
        return images


def load_images(
    folder: str, image_size: int, channels: int, value_range: Sequence[float] | None = None
) -> tuple[Tensor, list[str]]:
    """Decode the images that lie directly in a folder, without labels.

    Args:
        folder: the folder; a line is said of sub-folders and of files that are no images, which are left out.
        image_size: H = W in pixels; see `decode_files`.
        channels: 3 for RGB, 1 for grey.
        value_range: values of black and white in images of more than 8 bits; None for what their format says.

    Returns:
        uint8 `(N, C, H, W)` and the N file names, sorted.

    Raises:
        UserError: if the folder is missing or holds no images, or an image is corrupt.
    """
    check_size(image_size, channels)
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"there is no folder {path.absolute()} to take images from")
    found = read_folder(path)
    names = [file.name for file in found.images]
    left_out = LeftOut(found.left_out.names | {"folders inside it": found.folders})
    if not names:
        rest = f" (left out: {left_out})" if str(left_out) else ""
        raise UserError(f"{path.absolute()} holds no images{rest}")
    if str(left_out):
        log.warning("%s: left out %s", folder, left_out)
    return decode_files(path, names, image_size, channels, check_value_range(value_range)), names


def check_size(image_size: int, channels: int) -> None:
    """Refuse a size or number of channels that no image can have.

    Raises:
        UserError: if the size is not positive, or the channels are neither 1 nor 3.
    """
    if image_size < 1:
        raise UserError(f"data.image_size={image_size} is not a size in pixels: choose 1 or more")
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels} is not possible: choose 3 for RGB or 1 for grey")
