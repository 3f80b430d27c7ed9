"""Data sets that live on the device as uint8 and are handed out batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convbench.data.augment import Renderer, mix_seed
from convbench.data.prefetch import prefetch
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


def fits(splits: Splits, device: torch.device) -> bool:
    """Whether all images together take no more than half of what is free on a GPU; elsewhere they are there already."""
    if device.type != "cuda":
        return True
    tensors = {id(split.images): split.images for split in (splits.train, splits.val, splits.test) if split is not None}
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * sum(images.numel() for images in tensors.values()) <= free


@dataclass(frozen=True)
class Sharding:
    """How the images of an epoch are dealt out to the processes that train together, each of which holds its own.

    Process h of n holds images h, h + n, h + 2n ... and shuffles them by itself; a batch of all is one part from each.

    Attributes:
        images: of all processes together.
        world_size: processes.
        rank: the one whose images and parts of batches these are; None for one process that holds all, and sees the
            very batches that so many processes would.
    """

    images: int
    world_size: int = 1
    rank: int | None = None

    def steps(self, batch_size: int) -> int:
        """Whole batches that an epoch has."""
        return self.images // self.world_size // (batch_size // self.world_size)

    def order(self, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """The images of an epoch, batch by batch.

        Returns:
            For each, its position among those that are held, and its place among those of all processes.
        """
        steps, part = self.steps(batch_size), batch_size // self.world_size
        places = torch.arange(steps * batch_size).view(steps, self.world_size, part)
        world_size = range(self.world_size) if self.rank is None else [self.rank]
        shuffled = [self._shuffled(rank, seed, epoch)[: steps * part].view(steps, 1, part) for rank in world_size]
        if self.rank is not None:
            return shuffled[0].flatten(), places[:, self.rank].flatten()
        held = [self.world_size * order + rank for rank, order in enumerate(shuffled)]
        return torch.cat(held, 1).flatten(), places.flatten()

    def _shuffled(self, rank: int, seed: int, epoch: int) -> Tensor:
        count = len(range(rank, self.images, self.world_size))
        parts = (rank,) if self.world_size > 1 else ()
        return torch.randperm(count, generator=stream(seed, "order", epoch, *parts))


def shard(splits: Splits, rank: int, world_size: int, batch_size: int) -> Splits:
    """The splits of one process, and no other images in memory.

    Of the training images process h of n holds images h, h + n, h + 2n ... Of the others it holds batches h, h + n,
    h + 2n ..., since which images pass through a network together may change the last bits of what it says of each.
    """

    def part(split: Split, run: int = batch_size) -> Split:
        rows = split.indices[torch.arange(len(split)) // run % world_size == rank]
        if splits.on_disk:
            return replace(split, indices=rows)
        labels = None if split.labels is None else split.labels[rows]
        names = [split.names[row] for row in rows.tolist()]
        return Split(split.images[rows], labels, torch.arange(len(rows)), names)

    if world_size == 1:
        return splits
    test = None if splits.test is None else part(splits.test)
    return replace(splits, train=part(splits.train, 1), val=part(splits.val), test=test)


class TrainBatches:
    """Shuffled, augmented training batches of one fixed size.

    The order and the augmentation of epoch e depend on the seed and e alone: not on the network, not on the device, not
    on what was drawn before. So every conv type sees the same batches, and a resumed run goes on in mid-epoch.

    Args:
        split: the labelled training images, on the device; those that this process holds.
        batch_size: samples a batch, of all processes; the incomplete last batch is left out, so that every step has one
            shape.
        renderer: augments and normalises.
        num_classes: for the mixed labels of MixUp and CutMix.
        seed: of the run.
        sharding: what of each batch is for this process; None for a process by itself.
        is_prefetched: the images are not on the device, but prefetch ahead.

    Raises:
        UserError: if there are fewer images than `batch_size`, or it cannot be dealt out evenly.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        renderer: Renderer,
        num_classes: int,
        seed: int,
        sharding: Sharding | None = None,
        is_prefetched: bool = False,
    ) -> None:
        self.is_prefetched = is_prefetched
        self.sharding = Sharding(len(split)) if sharding is None else sharding
        if batch_size % self.sharding.world_size:
            raise UserError(
                f"a batch of {batch_size} cannot be divided between {self.sharding.world_size} processes; give a "
                f"multiple of {self.sharding.world_size} (batch_size)"
            )
        if not self.sharding.steps(batch_size):
            raise UserError(
                f"a batch of {batch_size} is larger than the {self.sharding.images} training images (batch_size)"
            )
        assert split.labels is not None
        self.split = split
        self.labels = split.labels
        self.batch_size = batch_size
        self.renderer = renderer
        self.seed = seed
        self._mix = renderer.augment.mixer(num_classes)

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.sharding.steps(self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `first`, `first + 1`, ... of an epoch: float32 `(N, C, H, W)` and labels `(N,)` or `(N, classes)`."""
        images, device = self.split.images, self.renderer.device
        order, places = self.sharding.order(self.batch_size, self.seed, epoch)
        rows = self.split.indices[order.to(self.split.indices.device)]
        draws = self.renderer.augment.draw(len(self) * self.batch_size, images.shape[-1], self.seed, epoch)
        draws = draws[places].to(device)
        size = len(order) // len(self)
        parts = [slice(index * size, (index + 1) * size) for index in range(first, len(self))]
        sources = _sources(images, [rows[part] for part in parts], self.is_prefetched, device)
        for index, part, (source, chosen) in zip(range(first, len(self)), parts, sources, strict=True):
            batch = self.renderer.augmented(source, chosen, draws[part])
            labels = self.labels[rows[part]].to(device)
            yield (batch, labels) if self._mix is None else self._mixed(batch, labels, epoch, index)

    def _mixed(self, batch: Tensor, labels: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        assert self._mix is not None
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms know no generator argument
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self._mix(batch, labels)


def _sources(
    images: Tensor, batches: Sequence[Tensor], is_prefetched: bool, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each batch a tensor on the device that holds its images, and their rows in it."""
    if not is_prefetched:
        yield from ((images, rows) for rows in batches)
        return
    for batch in prefetch(images, batches, device):
        yield batch, torch.arange(len(batch), device=device)


class EvalBatches:
    """Images of a split in their order, normalised only, in batches of one fixed size.

    Args:
        split: on the device; labels may be missing.
        batch_size: samples a batch.
        renderer: normalises.
        is_prefetched: the images are not on the device, but prefetch ahead.
    """

    def __init__(self, split: Split, batch_size: int, renderer: Renderer, is_prefetched: bool = False) -> None:
        self.is_prefetched = is_prefetched
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
        # Of few images a process may hold none, and one part without images is not the same as no part.
        parts = self.split.indices.split(self.batch_size) if len(self.split) else ()
        filled = [torch.cat([part, part[-1:].expand(self.batch_size - len(part))]) for part in parts]
        sources = _sources(self.split.images, filled, self.is_prefetched, self.renderer.device)
        for part, (source, rows) in zip(parts, sources, strict=True):
            yield self.renderer.plain(source, rows), part, len(part)
