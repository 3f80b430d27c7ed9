"""Types that all data sources share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class ImageSpec:
    """Properties of a data set that a network depends on; they are known before any image is read.

    Attributes:
        channels: number of channels C, 1 for greyscale or 3 for RGB.
        image_size: H = W in pixels.
        classes: class names; a label is an index into them.
    """

    channels: int
    image_size: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Images of one split: rows `indices` of `images`.

    Several splits may share one `images` tensor, so that a validation set taken from the training set needs no second
    copy of the images.

    Attributes:
        images: uint8 `(N, C, H, W)`.
        labels: int64 `(N,)`, or None for an unlabelled test set.
        indices: int64 `(n,)`, the rows of `images` and `labels` that belong to this split.
        names: name of each of the N rows for messages and tables (a file path, or `train/00012`).
        sizes: size in bytes of the file of each of the N rows; None if the images are not separate files.
    """

    images: Tensor
    labels: Tensor | None
    indices: Tensor
    names: Sequence[str]
    sizes: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Splits:
    """The splits of a data set in memory.

    Attributes:
        train, val: labelled splits.
        test: test split, which is evaluated once, at the end of a run; None if the data set has no test split.
        mean, std: mean and standard deviation per channel for the normalisation of pixel values from 0 to 1.
        on_disk: whether the images are a memory-mapped file, which may be larger than the memory.
    """

    train: Split
    val: Split
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    on_disk: bool = False


class Source(Protocol):
    """Interface of a data set; `conf/data/NAME.yaml` holds the constructor arguments of such a class."""

    def spec(self) -> ImageSpec:
        """Channels, size and classes of the images, without decoding or downloading an image.

        Raises:
            UserError: if the folder is missing or a class is empty.
        """
        ...

    def load(self) -> Splits:
        """Decode all images, and download them on first use.

        Raises:
            UserError: if files are missing, corrupt or cannot be downloaded; the message names them.
        """
        ...
