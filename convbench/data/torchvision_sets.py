"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST, read by torchvision's dataset classes and kept as uint8."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convbench.data.download import download
from convbench.data.duplicates import warn_about_duplicates
from convbench.data.folder import check_size
from convbench.data.normalisation import check_statistics, given_or_computed
from convbench.data.split import check_fraction, stratified_split
from convbench.data.types import ImageSpec, Split, Splits
from convbench.errors import UserError

_RESIZE_CHUNK = 1024  # images that are resized at a time, to limit the memory for temporary copies


@dataclass(frozen=True)
class _Known:
    """Properties of a data set that are known before its files are downloaded."""

    channels: int
    image_size: int
    classes: tuple[str, ...]


_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm"""
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_KNOWN = {
    "CIFAR10": _Known(3, 32, tuple(_CIFAR10.split())),
    "CIFAR100": _Known(3, 32, tuple(_CIFAR100.split())),
    "MNIST": _Known(1, 28, tuple("0123456789")),
    "FashionMNIST": _Known(1, 28, _CLOTHES),
}


class TorchvisionSet:
    """A data set of torchvision; the validation images are a random part of the training images.

    Args:
        dataset: name of the class in `torchvision.datasets`: CIFAR10, CIFAR100, MNIST or FashionMNIST.
        root: folder of the files of torchvision; the data set is downloaded to it on first use.
        sources: base addresses for the download, in the order in which they are tried; the original source last.
        image_size: H = W in pixels, to which images are resized (bilinear, antialiased); None for the native size.
        val_fraction: fraction of the training images that are used for validation.
        split_seed: seed of this split; it is independent of the seed of the run, so that all runs share the validation
            images.
        mean, std: mean and standard deviation of the training images per channel; None to compute them.
        flip: whether a mirrored image is a valid image; the augmentation reads it.

    Raises:
        UserError: if an argument is out of range.
    """

    def __init__(
        self,
        dataset: str,
        root: str,
        sources: Sequence[str],
        image_size: int | None,
        val_fraction: float,
        split_seed: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        flip: bool,
    ) -> None:
        if dataset not in _KNOWN:
            raise UserError(f"data.dataset={dataset} is not supported: choose {', '.join(_KNOWN)} (data.dataset)")
        self.known = _KNOWN[dataset]
        self.image_size = self.known.image_size if image_size is None else image_size
        check_size(self.image_size, self.known.channels)
        check_fraction(val_fraction, "data.val_fraction")
        check_statistics(mean, std, self.known.channels)
        self.dataset = dataset
        self.root = Path(root)
        self.sources = list(sources)
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.mean, self.std = mean, std
        self.flip = flip

    def spec(self) -> ImageSpec:
        """Specification of the images, which does not require the files."""
        return ImageSpec(self.known.channels, self.image_size, self.known.classes)

    def load(self) -> Splits:
        """Read the files, and download them first if they are missing.

        The splits `train` and `val` share one tensor of images.

        Raises:
            UserError: if no source delivers a file, or the files cannot be read.
        """
        images, labels = self._read(train=True)
        names = [f"train/{row:05d}" for row in range(len(images))]
        train, val = (
            Split(images, labels, indices, names)
            for indices in stratified_split(
                labels, [self.val_fraction], self.split_seed, self.known.classes, ["data.val_fraction"]
            )
        )
        mean, std = given_or_computed(self.mean, self.std, images, train.indices)
        images, labels = self._read(train=False)
        test = Split(images, labels, torch.arange(len(images)), [f"test/{row:05d}" for row in range(len(images))])
        warn_about_duplicates(self.dataset, {"train": train, "val": val, "test": test})
        return Splits(train, val, test, mean, std)

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read images `(N, C, H, W)` and labels `(N,)` of the training or the test set."""
        from torchvision import datasets  # imported here because it takes a second, which would delay `--help`

        kind = getattr(datasets, self.dataset)
        try:
            try:
                found = kind(self.root, train=train)
            except RuntimeError:  # torchvision raises it if files are missing or have a wrong checksum
                self._download(kind)
                found = kind(self.root, train=train, download=True)  # extracts the verified archives
            images, labels = self._tensors(found)
        except UserError:
            raise
        except Exception as error:  # damaged files, a full disk or a read-only folder cause many types
            raise UserError(
                f"cannot read {self.dataset} in {self.root.absolute()} ({error}): delete its files to download them "
                f"again, or give another folder (data.root)"
            ) from error
        return (images, labels) if images.shape[-1] == self.image_size else (self._resize(images), labels)

    def _download(self, kind: Any) -> None:
        """Download the archives to the folder in which torchvision looks for them."""
        if hasattr(kind, "resources"):
            archives, folder = kind.resources, self.root / kind.__name__ / "raw"
        else:
            archives, folder = [(kind.filename, kind.tgz_md5)], self.root
        for filename, md5 in archives:
            download(filename, md5, [f"{base.rstrip('/')}/{filename}" for base in self.sources], folder)

    def _tensors(self, found: Any) -> tuple[Tensor, Tensor]:
        """Images and labels of a torchvision data set, without a copy."""
        images = torch.as_tensor(found.data)
        # The array of CIFAR is an (N, H, W, C) view of (N, C, H, W) data, so the permuted tensor is contiguous.
        images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images.unsqueeze(1)
        return images.contiguous(), torch.as_tensor(found.targets, dtype=torch.int64)

    def _resize(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import resize

        size = [self.image_size, self.image_size]
        resized = images.new_empty((*images.shape[:2], *size))
        for rows in torch.arange(len(images)).split(_RESIZE_CHUNK):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            resized[part] = resize(images[part], size, antialias=True)
        return resized
