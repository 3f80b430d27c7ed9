"""Data sets that are stored on the device as uint8, and their training and evaluation batches."""

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
    """Move images, labels and indices to `device`; tensors that splits share are moved once and stay shared."""
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
    """Whether all images together need at most half of the free memory of a GPU; true for other devices."""
    if device.type != "cuda":
        return True
    tensors = {id(split.images): split.images for split in (splits.train, splits.val, splits.test) if split is not None}
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * sum(images.numel() for images in tensors.values()) <= free


@dataclass(frozen=True)
class Sharding:
    """Distribution of the training images over the processes of a distributed run.

    The process of rank h out of n holds images h, h + n, h + 2n ... and shuffles them independently of the others. A
    global batch consists of one equal part from each process.

    Attributes:
        images: number of training images of all processes together.
        world_size: number of processes.
        rank: rank of this process; None for a single process that holds all images and sees the same global batches as
            `world_size` processes.
    """

    images: int
    world_size: int = 1
    rank: int | None = None

    def steps(self, batch_size: int) -> int:
        """Number of complete global batches per epoch."""
        return self.images // self.world_size // (batch_size // self.world_size)

    def order(self, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Order of the images in an epoch, batch by batch.

        Returns:
            For each image, its index among the images of this process, and its position in the epoch of all processes;
            two int64 tensors of equal length.
        """
        steps, part = self.steps(batch_size), batch_size // self.world_size
        positions = torch.arange(steps * batch_size).view(steps, self.world_size, part)
        ranks = range(self.world_size) if self.rank is None else [self.rank]
        shuffled = [self._shuffled(rank, seed, epoch)[: steps * part].view(steps, 1, part) for rank in ranks]
        if self.rank is not None:
            return shuffled[0].flatten(), positions[:, self.rank].flatten()
        indices = [self.world_size * order + rank for rank, order in enumerate(shuffled)]
        return torch.cat(indices, 1).flatten(), positions.flatten()

    def _shuffled(self, rank: int, seed: int, epoch: int) -> Tensor:
        count = len(range(rank, self.images, self.world_size))
        key = (rank,) if self.world_size > 1 else ()
        return torch.randperm(count, generator=stream(seed, "order", epoch, *key))


def shard(splits: Splits, rank: int, world_size: int, batch_size: int) -> Splits:
    """Images of one process of a distributed run; only these images are kept in memory.

    The process of rank h out of n holds the training images h, h + n, h + 2n ... Of the other splits it holds the whole
    batches h, h + n, h + 2n ..., because the composition of a batch may change the last bits of the outputs.
    """

    def part(split: Split, chunk: int = batch_size) -> Split:
        rows = split.indices[torch.arange(len(split)) // chunk % world_size == rank]
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
    """Shuffled and augmented training batches of a fixed size.

    The order and the augmentation of an epoch depend only on the seed and the index of the epoch, and not on the
    network, the device or earlier random draws. All conv types therefore see the same batches, and a run can be resumed
    in the middle of an epoch.

    Args:
        split: labelled training images of this process, on the device.
        batch_size: number of samples in a global batch, over all processes. The incomplete last batch of an epoch is
            dropped, so that all steps have the same shape.
        renderer: augmentation and normalisation of the batches.
        num_classes: number of classes, for the mixed labels of MixUp and CutMix.
        seed: seed of the run.
        sharding: distribution of each batch over the processes; None for a single process.
        is_prefetched: whether the images are not stored on the device, but prefetched from the host.

    Raises:
        UserError: if there are fewer images than `batch_size`, or it is not divisible by the number of processes.
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
        """Number of batches per epoch."""
        return self.sharding.steps(self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches `first`, `first + 1`, ...: float32 `(N, C, H, W)` and labels `(N,)` or `(N, num_classes)`."""
        images, device = self.split.images, self.renderer.device
        order, positions = self.sharding.order(self.batch_size, self.seed, epoch)
        rows = self.split.indices[order.to(self.split.indices.device)]
        draws = self.renderer.augment.draw(len(self) * self.batch_size, images.shape[-1], self.seed, epoch)
        draws = draws[positions].to(device)
        size = len(order) // len(self)
        parts = [slice(index * size, (index + 1) * size) for index in range(first, len(self))]
        sources = _sources(images, [rows[part] for part in parts], self.is_prefetched, device)
        for index, part, (source, source_rows) in zip(range(first, len(self)), parts, sources, strict=True):
            batch = self.renderer.augmented(source, source_rows, draws[part])
            labels = self.labels[rows[part]].to(device)
            yield (batch, labels) if self._mix is None else self._mixed(batch, labels, epoch, index)

    def _mixed(self, batch: Tensor, labels: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        assert self._mix is not None
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms accept no generator
            torch.default_generator.manual_seed(mix_seed(self.seed, epoch, index))
            return self._mix(batch, labels)


def _sources(
    images: Tensor, batches: Sequence[Tensor], is_prefetched: bool, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each batch a tensor on the device that contains its images, and their rows in this tensor."""
    if not is_prefetched:
        yield from ((images, rows) for rows in batches)
        return
    for batch in prefetch(images, batches, device):
        yield batch, torch.arange(len(batch), device=device)


class EvalBatches:
    """Normalised images of a split in their original order, in batches of a fixed size.

    Args:
        split: images on the device; labels may be missing.
        batch_size: number of samples per batch.
        renderer: normalisation of the batches.
        is_prefetched: whether the images are not stored on the device, but prefetched from the host.
    """

    def __init__(self, split: Split, batch_size: int, renderer: Renderer, is_prefetched: bool = False) -> None:
        self.is_prefetched = is_prefetched
        self.split = split
        self.batch_size = batch_size
        self.renderer = renderer

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield float32 `(batch_size, C, H, W)`, the rows `(n,)` of `split.images`, and n.

        The last batch is padded with copies of its last image, so that a compiled network sees only one shape. Only the
        first n results are valid.
        """
        # With few images, a process may have none; `split` would then return one empty batch instead of no batch.
        parts = self.split.indices.split(self.batch_size) if len(self.split) else ()
        padded = [torch.cat([part, part[-1:].expand(self.batch_size - len(part))]) for part in parts]
        sources = _sources(self.split.images, padded, self.is_prefetched, self.renderer.device)
        for part, (source, rows) in zip(parts, sources, strict=True):
            yield self.renderer.plain(source, rows), part, len(part)
