"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST through torchvision's dataset classes, held once, as uint8."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convbench.data.copies import warn_of_copies
from convbench.data.download import download
from convbench.data.folder import check_size
from convbench.data.normalisation import check_statistics, given_or_computed
from convbench.data.split import check_fraction, stratified_split
from convbench.data.types import ImageSpec, Split, Splits
from convbench.errors import UserError

_RESIZE_CHUNK = 1024  # images resized at a time, so that only a few of them are held in both sizes


@dataclass(frozen=True)
class _Known:
    """What can be said of a dataset before its files are here."""

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
    """A dataset of torchvision; its validation images are cut from the training images.

    Args:
        dataset: name of the class in `torchvision.datasets`: CIFAR10, CIFAR100, MNIST or FashionMNIST.
        root: folder where torchvision keeps it; downloaded to there on first use.
        sources: base addresses to download from, in the order of trying, the original last.
        image_size: H = W in pixels; None for the native size, else resized (bilinear, antialiased).
        val_fraction: share of the training images to validate on.
        split_seed: of that cut; not that of the run, so that every run has the same validation images.
        mean, std: per channel, of the training images; None to compute them.
        flip: whether a mirrored image is still a valid one; read by the augmentation.

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
            raise UserError(f"data.dataset={dataset} is not known: choose {', '.join(_KNOWN)}")
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
        """Known without files."""
        return ImageSpec(self.known.channels, self.image_size, self.known.classes)

    def load(self) -> Splits:
        """Read the files, after downloading them if they are not there.

        The images of `train` and `val` are one tensor.

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
        warn_of_copies(self.dataset, {"train": train, "val": val, "test": test})
        return Splits(train, val, test, mean, std)

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Images `(N, C, H, W)` and labels `(N,)` of one half of the dataset."""
        from torchvision import datasets  # takes a second, which `spec` and `--help` need not wait for

        kind = getattr(datasets, self.dataset)
        try:
            try:
                found = kind(self.root, train=train)
            except RuntimeError:  # torchvision's way to say that files are missing or not the right ones
                self._download(kind)
                found = kind(self.root, train=train, download=True)  # unpacks the verified archives
            images, labels = self._tensors(found)
        except UserError:
            raise
        except Exception as error:  # what damaged files, a full disk or a read-only folder lead to in there
            raise UserError(
                f"cannot read {self.dataset} in {self.root.absolute()} ({error}): "
                f"delete its files there to have them downloaded again, or set data.root to another folder"
            ) from error
        return (images, labels) if images.shape[-1] == self.image_size else (self._resize(images), labels)

    def _download(self, kind: Any) -> None:
        """Put the archives where torchvision looks for them before it downloads anything itself."""
        if hasattr(kind, "resources"):
            archives, folder = kind.resources, self.root / kind.__name__ / "raw"
        else:
            archives, folder = [(kind.filename, kind.tgz_md5)], self.root
        for filename, md5 in archives:
            download(filename, md5, [f"{base.rstrip('/')}/{filename}" for base in self.sources], folder)

    def _tensors(self, found: Any) -> tuple[Tensor, Tensor]:
        """The arrays of a torchvision dataset as they are: without a copy."""
        images = torch.as_tensor(found.data)
        # CIFAR's array is an (N, H, W, C) view of the (N, C, H, W) bytes of the files, so this view is contiguous.
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
