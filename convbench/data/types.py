"""What every source of images delivers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class ImageSpec:
    """What a network has to know of a dataset; known before any image is read.

    Attributes:
        channels: C, 1 for grey or 3 for RGB.
        image_size: H = W in pixels.
        classes: class names; a label is an index into them.
    """

    channels: int
    image_size: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Images of one split: rows `indices` of `images`.

    Several splits may share one `images` tensor, so that a validation set cut from the training set costs no second
    copy of the images.

    Attributes:
        images: uint8 `(N, C, H, W)`.
        labels: int64 `(N,)`, or None for an unlabelled test set.
        indices: int64 `(n,)`, the rows of `images` and `labels` that belong to this split.
        names: for each of the N rows a name for a person (a file path, or `train/00012`).
        sizes: bytes of the file that each of the N rows was decoded from; None for images that are not files of
            their own.
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
    """A dataset in memory.

    Attributes:
        train, val: labelled splits.
        test: the test split, read once, at the end of a run; None where the dataset has none.
        mean, std: per channel, of the training images in the 0..1 scale, for normalisation.
        on_disk: the images are a file mapped into memory, larger perhaps than memory is.
    """

    train: Split
    val: Split
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    on_disk: bool = False


class Source(Protocol):
    """A dataset: `conf/data/NAME.yaml` is the constructor call of a class like this."""

    def spec(self) -> ImageSpec:
        """Channels, size and classes, without decoding or downloading an image.

        Raises:
            UserError: if the folder is missing or a class is empty.
        """
        ...

    def load(self) -> Splits:
        """Decode (and on first use download) all images.

        Raises:
            UserError: if files are missing, corrupt or unreachable; the message names them.
        """
        ...
