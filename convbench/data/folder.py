"""Image folders: one folder per class, with or without folders for the splits above them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import PIL
import torch
from torch import Tensor

from convbench.data.cache import TensorCache
from convbench.data.decode import decode_files
from convbench.data.layout import ImageFile, Layout, list_images, scan
from convbench.data.split import check_fraction, stratified_split
from convbench.data.statistics import check_statistics, given_or_computed
from convbench.data.types import ImageSpec, Split, Splits
from convbench.errors import UserError


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
    ) -> None:
        check_size(image_size, channels)
        check_fraction(val_fraction, "data.val_fraction")
        check_fraction(test_fraction, "data.test_fraction")
        check_statistics(mean, std, channels)
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
        return scan(self.root, self.hint)

    def load(self) -> Splits:
        """Decode all images, or read them from the cache.

        Raises:
            UserError: as `spec`, and if an image is corrupt; the message names it.
        """
        layout = self.scan()
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
        names = [file.name for file in files]
        if self.cache is None:
            if self.on_disk:
                raise UserError("data.on_disk=true needs a folder for the file of decoded images (data.cache)")
            return decode_files(self.root, names, self.image_size, self.channels)
        # Everything that decides the pixels: the files as they are now, what is made of them, and by what.
        made_from = [PIL.__version__, self.image_size, self.channels, [(f.name, f.size, f.time) for f in files]]
        slot = json.dumps([os.path.realpath(self.root), self.image_size, self.channels])
        cache = TensorCache(self.cache, slot, json.dumps(made_from))
        if self.on_disk:
            return self._mapped(cache, names)
        images = cache.read()
        if images is None:
            images = decode_files(self.root, names, self.image_size, self.channels)
            cache.write(images)
        return images

    def _mapped(self, cache: TensorCache, names: Sequence[str]) -> Tensor:
        images = cache.map()
        if images is None:
            shape = (len(names), self.channels, self.image_size, self.image_size)
            try:
                cache.fill(shape, lambda rows: decode_files(self.root, names, self.image_size, self.channels, rows))
            except OSError as error:
                raise UserError(f"cannot write the decoded images to {self.cache}: {error} (data.cache)") from error
            images = cache.map()
        assert images is not None  # it has just been written
        return images


def load_images(folder: str, image_size: int, channels: int) -> tuple[Tensor, list[str]]:
    """Decode the images that lie directly in a folder, without labels.

    Args:
        folder: the folder; subfolders and other files are ignored.
        image_size: H = W in pixels; see `decode_files`.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 `(N, C, H, W)` and the N file names, sorted.

    Raises:
        UserError: if the folder is missing or holds no images, or an image is corrupt.
    """
    check_size(image_size, channels)
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"there is no folder {path.absolute()} to take images from")
    names = [file.name for file in list_images(path, prefix="")]
    if not names:
        raise UserError(f"{path.absolute()} holds no images")
    return decode_files(path, names, image_size, channels), names


def check_size(image_size: int, channels: int) -> None:
    """Refuse a size or number of channels that no image can have.

    Raises:
        UserError: if the size is not positive, or the channels are neither 1 nor 3.
    """
    if image_size < 1:
        raise UserError(f"data.image_size={image_size} is not a size in pixels: choose 1 or more")
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels} is not possible: choose 3 for RGB or 1 for grey")
