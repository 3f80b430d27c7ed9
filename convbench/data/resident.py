"""Data sets that live on the device as uint8 and are handed out batch by batch."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from convbench.data.augment import Renderer, mix_seed
from convbench.data.types import Split, Splits
from convbench.errors import UserError
from convbench.seeding import stream


def to_device(splits: Splits, device: torch.device) -> Splits:
    """The same splits with images and labels on `device`; what splits share is moved, and held, once."""
    moved: dict[int, Tensor] = {}

    def move(tensor: Tensor) -> Tensor:
        key = id(tensor)
        if key not in moved:
            moved[key] = tensor.to(device)
        return moved[key]

    def move_split(split: Split) -> Split:
        labels = None if split.labels is None else move(split.labels)
        return replace(split, images=move(split.images), labels=labels, indices=split.indices.to(device))

    test = None if splits.test is None else move_split(splits.test)
    return replace(splits, train=move_split(splits.train), val=move_split(splits.val), test=test)


class TrainBatches:
    """Shuffled, augmented training batches of one fixed size.

    The order and the augmentation of epoch e depend on the seed and e alone: not on the network, not on the device, not
    on what was drawn before. So every conv type sees the same batches, and a resumed run goes on in mid-epoch.

    Args:
        split: the labelled training images, on the device.
        batch_size: samples a batch; the incomplete last batch is left out, so that every step has one shape.
        renderer: augments and normalises.
        num_classes: for the mixed labels of MixUp and CutMix.
        seed: of the run.

    Raises:
        UserError: if there are fewer images than `batch_size`.
    """

    def __init__(self, split: Split, batch_size: int, renderer: Renderer, num_classes: int, seed: int) -> None:
        if len(split) < batch_size:
            raise UserError(f"a batch of {batch_size} is larger than the {len(split)} training images (batch_size)")
        assert split.labels is not None
        self.split = split
        self.labels = split.labels
        self.batch_size = batch_size
        self.renderer = renderer
        self.seed = seed
        self._mix = renderer.augment.mixer(num_classes)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.split) // self.batch_size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `first`, `first + 1`, ... of an epoch: float32 `(N, C, H, W)` and labels `(N,)` or `(N, classes)`."""
        split, images = self.split, self.split.images
        count = len(self) * self.batch_size
        order = torch.randperm(len(split), generator=stream(self.seed, "order", epoch))[:count]
        rows = split.indices[order.to(images.device)]
        draws = self.renderer.augment.draw(count, images.shape[-1], self.seed, epoch).to(images.device)
        for index in range(first, len(self)):
            part = slice(index * self.batch_size, (index + 1) * self.batch_size)
            batch = self.renderer.augmented(images, rows[part], draws[part])
            labels = self.labels[rows[part]]
            yield (batch, labels) if self._mix is None else self._mixed(batch, labels, epoch, index)

    def _mixed(self, batch: Tensor, labels: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        assert self._mix is not None
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms know no generator argument
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self._mix(batch, labels)


class EvalBatches:
    """Images of a split in their order, normalised only, in batches of one fixed size.

    Args:
        split: on the device; labels may be missing.
        batch_size: samples a batch.
        renderer: normalises.
    """

    def __init__(self, split: Split, batch_size: int, renderer: Renderer) -> None:
        self.split = split
        self.batch_size = batch_size
        self.renderer = renderer

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yields float32 `(batch_size, C, H, W)`, the rows `(n,)` of `split.images`, and n.

        The last batch is filled up with copies of its last image, so that a compiled network sees one shape; only the
        first n results count.
        """
        rows = self.split.indices
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            filled = torch.cat([part, part[-1:].expand(self.batch_size - len(part))])
            yield self.renderer.plain(self.split.images, filled), part, len(part)
