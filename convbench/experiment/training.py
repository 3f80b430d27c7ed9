"""The construction of everything that a run trains with, from a composition and its images, in four steps.

The images are moved to the memory from which batches are assembled, the batches are defined, the implementations of the
network are chosen, and the training step is assembled.
"""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from convbench.convs.swap import SwapReport
from convbench.data.augment import Renderer
from convbench.data.resident import EvalBatches, Sharding, TrainBatches, fits, shard, to_device
from convbench.data.types import Splits
from convbench.engine import distributed
from convbench.engine.optimizers import build_optimizer
from convbench.engine.schedules import Clock
from convbench.engine.step import TrainStep
from convbench.errors import UserError
from convbench.experiment.composition import Composition
from convbench.seeding import stable_seed
from convbench.tuning.compilation import Compilation, compile_network, decide_compilation
from convbench.tuning.implementations import choose_implementations
from convbench.tuning.measurements import MeasurementCache


@dataclass(frozen=True)
class EarlierChoices:
    """The choices that a run made by measurements when it started; a resumed run keeps them for identical numbers.

    Attributes:
        implementations: the implementation that `conv.implementation=auto` chose, by the name of the convolution.
        compiled: whether the network was compiled; None for a new run.
    """

    implementations: Mapping[str, str] = field(default_factory=dict)
    compiled: bool | None = None


@dataclass(frozen=True)
class PlacedImages:
    """The images of this process, in the memory from which its batches are assembled.

    Attributes:
        splits: the images, on the device, or in host memory if they are prefetched.
        counts: the number of images of each existing split of `train`, `val` and `test`, over all processes.
        sharding: the part of each training batch that belongs to this process.
        is_prefetched: whether a thread moves the images of each batch to the device in advance.
    """

    splits: Splits
    counts: dict[str, int]
    sharding: Sharding
    is_prefetched: bool


@dataclass(frozen=True)
class Training:
    """Everything that a run trains with.

    Attributes:
        images: the images of this process.
        step: the training step; `step.network` is the network.
        train: the training batches.
        renderer: normalises all images and augments the training images.
        swap: the report on swapped convolutions, with the implementations in use.
        compilation: whether the network is compiled, and why.
        measurements: the cache of the measurements on this device.
    """

    images: PlacedImages
    step: TrainStep
    train: TrainBatches
    renderer: Renderer
    swap: SwapReport
    compilation: Compilation
    measurements: MeasurementCache

    def evaluation(self, split: str) -> EvalBatches:
        """The batches of the split `val` or `test`."""
        images = self.images
        return EvalBatches(getattr(images.splits, split), self.train.batch_size, self.renderer, images.is_prefetched)


def build_training(
    config: DictConfig, composition: Composition, loaded: Splits, earlier: EarlierChoices | None = None
) -> Training:
    """Build everything that a run trains with.

    Args:
        config: a configuration that `convbench.config.schema.check` accepts.
        composition: the composition of the same configuration.
        loaded: all images, in host memory.
        earlier: the choices that a resumed run made when it started; None for a new run.

    Raises:
        UserError: if a batch is larger than the training set, it cannot be divided into equal parts, or a CUDA graph is
            not possible.
    """
    engine, device = config.engine, composition.device
    _check_graph(engine, device)
    images = place_images(loaded, engine, config.batch_size, device)
    renderer = Renderer(images.splits.mean, images.splits.std, composition.augment, engine.channels_last, device)
    network = on_device(composition.built.network, device, engine.channels_last)
    train = _train_batches(config, images, renderer, composition.built.num_classes)
    measurements = MeasurementCache(Path(engine.cache), device)
    swap, compilation = _choose_computation(config, composition, network, train, measurements, earlier)
    if compilation.is_on and device.type == "cuda":  # on a CPU, compiling the augmentation costs more than it saves
        renderer.compile()
        next(iter(train.epoch(0)))  # compiles now, so that the time of the first epoch does not include it
    step = TrainStep(
        network=network.train(),
        optimizer=build_optimizer(composition.optimizer, network, device),
        criterion=nn.CrossEntropyLoss(label_smoothing=config.label_smoothing),
        schedule=composition.schedule,
        anneal=composition.anneal,
        clock=Clock(config.epochs, len(train)),
        precision=engine.autocast,
        device=device,
        parallel=_data_parallel(network, device) if distributed.world_size() > 1 else None,
        accumulate=engine.accumulate,
        has_graph=engine.cuda_graph,
    )
    # Seed anew, so that the random numbers of dropout do not depend on the type of the convolutions.
    torch.manual_seed(stable_seed(config.seed, "dropout", *([distributed.rank()] if distributed.rank() else [])))
    return Training(images, step, train, renderer, swap, compilation, measurements)


def place_images(loaded: Splits, engine: DictConfig, batch_size: int, device: torch.device) -> PlacedImages:
    """Shard the images over the processes and move them to the device, unless they are prefetched.

    Args:
        loaded: all images, in host memory.
        engine: the group `engine` of the configuration.
        batch_size: the number of images of a batch, over all processes.
        device: the device of the network.
    """
    rank, world_size = distributed.rank(), distributed.world_size()
    if world_size > 1:
        sharding = Sharding(len(loaded.train), world_size, rank)
    else:
        sharding = Sharding(len(loaded.train), engine.shards)
    splits = shard(loaded, rank, world_size, batch_size)
    does_not_fit = engine.images == "auto" and not fits(splits, device)
    is_prefetched = engine.images == "host" or loaded.on_disk or does_not_fit
    counts = {name: len(split) for name in ("train", "val", "test") if (split := getattr(loaded, name)) is not None}
    return PlacedImages(
        splits=splits if is_prefetched else to_device(splits, device),
        counts=counts,
        sharding=sharding,
        is_prefetched=is_prefetched,
    )


def on_device(network: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move a network to a device, and to the memory format channels_last if requested."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if channels_last else network


def _check_graph(engine: DictConfig, device: torch.device) -> None:
    if engine.cuda_graph and (device.type != "cuda" or distributed.world_size() > 1):
        raise UserError(
            f"engine.cuda_graph=true needs a single process on a GPU, but the number of processes is "
            f"{distributed.world_size()} and the device is {device.type}: give false (engine.cuda_graph)"
        )


def _train_batches(config: DictConfig, images: PlacedImages, renderer: Renderer, num_classes: int) -> TrainBatches:
    train = TrainBatches(
        images.splits.train,
        config.batch_size,
        renderer,
        num_classes,
        config.seed,
        images.sharding,
        images.is_prefetched,
    )
    per_process = config.batch_size // images.sharding.world_size
    if per_process % config.engine.accumulate:
        raise UserError(
            f"{per_process} images a step cannot be split into {config.engine.accumulate} equal parts; "
            "give another number (engine.accumulate)"
        )
    return train


def _choose_computation(
    config: DictConfig,
    composition: Composition,
    network: nn.Module,
    train: TrainBatches,
    measurements: MeasurementCache,
    earlier: EarlierChoices | None,
) -> tuple[SwapReport, Compilation]:
    """Choose the implementations left to `auto`, and whether to compile; process 0 measures for all processes."""
    engine, built = config.engine, composition.built
    earlier = earlier or EarlierChoices()
    batch, _ = next(iter(train.epoch(0)))

    def choose(known: Mapping[str, str]) -> dict[str, str]:
        return choose_implementations(network, batch, engine.autocast, measurements, known)

    if distributed.rank() == 0:
        chosen = choose(earlier.implementations)
        distributed.broadcast_object(chosen)
    else:
        chosen = choose(distributed.broadcast_object(None))
    swap = built.swap.with_implementations(chosen)
    name = f"{built.name}, {swap.kind}, {tuple(batch.shape)}, autocast {engine.autocast}"
    compilation = Compilation(name, engine.compile is True if earlier.compiled is None else earlier.compiled)
    if earlier.compiled is None and engine.compile == "auto":
        steps = config.epochs * len(train)
        found = decide_compilation(network, batch, engine.autocast, config.epochs, steps, measurements, name)
        compilation = distributed.broadcast_object(found)
    part: Tensor = batch.chunk(engine.accumulate)[0]
    is_required = engine.compile is True
    return swap, compile_network(compilation, network, part, engine.autocast, is_required=is_required)


# The argument that makes DistributedDataParallel copy buffers before every step; its name changed in torch 2.15.
_BUFFERS_ARGUMENT = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


def _data_parallel(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Wrap the network to average gradients over the processes; buffers, such as running means, remain local."""
    # The warning compares the strides of axes of length one, too, as in 1x1 kernels, where strides have no effect.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    buffers: Any = {_BUFFERS_ARGUMENT: False}
    return DistributedDataParallel(
        network,
        device_ids=None if device.index is None else [device.index],
        gradient_as_bucket_view=True,
        **buffers,
    )
