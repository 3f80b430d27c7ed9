"""From a composed configuration to objects, in the one right order; nothing below this file sees a configuration.

First what costs nothing and can be wrong (the data's facts, the network, the swap), then the images, then what needs
both.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from convbench.convs.swap import SwapReport
from convbench.data.augment import Augment, Renderer
from convbench.data.identity import Identity, KnownSource
from convbench.data.resident import Deal, EvalBatches, TrainBatches, fits, held_by, to_device
from convbench.data.types import ImageSpec, Source, Splits
from convbench.engine import world
from convbench.engine.compilation import Compilation, carry_out, decide, keep_compiled_code
from convbench.engine.device import choose_device, set_up
from convbench.engine.optimizers import build_optimizer
from convbench.engine.remembered import Remembered
from convbench.engine.schedules import Anneal, Clock, Schedule
from convbench.engine.step import TrainStep
from convbench.errors import UserError
from convbench.network import BuiltNetwork, build_network, make
from convbench.seeding import stable_seed
from convbench.timing.tuning import choose_implementations


@dataclass(frozen=True)
class Composition:
    """A network fitted to a data set of which no image has been read yet.

    Attributes:
        source: will read the images.
        spec: their channels, size and classes.
        built: the network, on the CPU, and what is known of it.
        augment: how training images are varied.
        schedule, anneal: learning rate and temperature over the run.
        optimizer: constructor of the optimizer, its arguments bound.
        device: where it is to run.
    """

    source: Source
    spec: ImageSpec
    built: BuiltNetwork
    augment: Augment
    schedule: Schedule
    anneal: Anneal
    optimizer: Callable[..., Optimizer]
    device: torch.device


@dataclass(frozen=True)
class Before:
    """What a run chose by measuring when it began: to go on to the same numbers, it has to stay.

    Attributes:
        implementations: name of a convolution -> what was chosen for it, where `conv.implementation=auto`.
        compiled: whether the network was compiled; None for a run that begins.
    """

    implementations: Mapping[str, str] = field(default_factory=dict)
    compiled: bool | None = None


@dataclass(frozen=True)
class Training:
    """Everything a run trains with.

    Attributes:
        splits: the images, on the device; those that this process holds.
        images: how many of each split there are, `train`, `val` and `test`, of all processes.
        step: a training step; `step.network` is the network.
        train: its batches.
        eval_batch_size, renderer: for batches of the other splits.
        swap: what was swapped, with the implementations in use.
        compilation: whether the network is compiled, and why.
        remembered: what was measured on this device.
    """

    splits: Splits
    images: dict[str, int]
    step: TrainStep
    train: TrainBatches
    eval_batch_size: int
    renderer: Renderer
    swap: SwapReport
    compilation: Compilation
    remembered: Remembered

    def evaluation(self, split: str) -> EvalBatches:
        """Batches of `val` or `test`."""
        return EvalBatches(getattr(self.splits, split), self.eval_batch_size, self.renderer, self.train.is_streamed)


def compose(config: DictConfig, identity: Identity | None = None) -> Composition:
    """Build data source and network; reads no image.

    Args:
        config: passed by `convbench.config.check`.
        identity: of the data of a run that exists: they alone are read then, and the network is fitted to them.

    Raises:
        UserError: whatever a user can mend.
    """
    keep_compiled_code(Path(config.engine.cache))
    device = choose_device(config.engine.device)
    set_up(device, config.engine.threads, config.engine.deterministic)
    source: Source = make(config.data, "data")
    if identity is not None:
        source = KnownSource(source, identity)
    spec = source.spec()
    augment: Augment = make(config.augment, "augment")
    augment.check(spec.image_size)
    built = build_network(config, spec)
    return Composition(
        source=source,
        spec=spec,
        built=built,
        augment=augment,
        schedule=make(config.schedule, "schedule"),
        anneal=make(config.temperature, "temperature"),
        optimizer=make(config.optimizer, "optimizer"),
        device=device,
    )


def build_training(
    config: DictConfig,
    composition: Composition,
    before: Before | None = None,
    on_loaded: Callable[[Splits], None] | None = None,
) -> Training:
    """Read the images and build what trains on them.

    Args:
        config: passed by `convbench.config.check`.
        composition: made of it.
        before: what a run that is resumed chose when it began.
        on_loaded: called with all images in host memory, before they are dealt out and moved to the device.

    Raises:
        UserError: if images are missing or corrupt, or fewer than a batch.
    """
    before = before or Before()
    engine, device = config.engine, composition.device
    if engine.cuda_graph and (device.type != "cuda" or world.size() > 1):
        raise UserError(
            f"a CUDA graph needs one process on a GPU, not {world.size()} on {device.type}; give false "
            "(engine.cuda_graph)"
        )
    loaded = composition.source.load()
    if on_loaded is not None:
        on_loaded(loaded)
    together = world.size() > 1
    deal = Deal(len(loaded.train), world.size() if together else engine.shards, world.rank() if together else None)
    splits = held_by(loaded, world.rank(), world.size(), config.batch_size)
    is_streamed = engine.images == "host" or loaded.on_disk or (engine.images == "auto" and not fits(splits, device))
    if not is_streamed:
        splits = to_device(splits, device)
    renderer = Renderer(splits.mean, splits.std, composition.augment, engine.channels_last, device)
    network = composition.built.network.to(device)
    if engine.channels_last:
        network = network.to(memory_format=torch.channels_last)
    train = TrainBatches(
        splits.train, config.batch_size, renderer, composition.built.num_classes, config.seed, deal, is_streamed
    )
    if config.batch_size // deal.hands % engine.accumulate:
        raise UserError(
            f"{config.batch_size // deal.hands} images a step cannot be split into {engine.accumulate} equal parts; "
            "give another number (engine.accumulate)"
        )
    remembered = Remembered(Path(engine.cache), device)
    batch, _ = next(iter(train.epoch(0)))
    # The first process measures; the others compute in the same way.
    if world.rank() == 0:
        chosen = choose_implementations(network, batch, engine.autocast, remembered, before.implementations)
        world.of_first(chosen)
    else:
        chosen = choose_implementations(network, batch, engine.autocast, remembered, world.of_first(None))
    swap = composition.built.swap.with_implementations(chosen)
    name = f"{composition.built.name}, {swap.kind}, {tuple(batch.shape)}, autocast {engine.autocast}"
    compilation = Compilation(name, engine.compile is True)
    if before.compiled is not None:
        compilation = Compilation(name, before.compiled)
    elif engine.compile == "auto":
        steps = config.epochs * len(train)
        found = decide(network, batch, engine.autocast, config.epochs, steps, remembered, name)
        compilation = world.of_first(found)
    part = batch.chunk(engine.accumulate)[0]
    compilation = carry_out(compilation, network, part, engine.autocast, is_required=engine.compile is True)
    if compilation.is_on and device.type == "cuda":  # on a CPU it takes longer than what it replaces
        renderer.compile()
        next(iter(train.epoch(0)))  # now, and not in the time of an epoch
    step = TrainStep(
        network=network.train(),
        optimizer=build_optimizer(composition.optimizer, network, device),
        criterion=nn.CrossEntropyLoss(label_smoothing=config.label_smoothing),
        schedule=composition.schedule,
        anneal=composition.anneal,
        clock=Clock(config.epochs, len(train)),
        precision=engine.autocast,
        device=device,
        parallel=_parallel(network, device) if together else None,
        accumulate=engine.accumulate,
        has_graph=engine.cuda_graph,
    )
    # Building convolutions of different types must not shift what dropout draws.
    torch.manual_seed(stable_seed(config.seed, "dropout", *([world.rank()] if world.rank() else [])))
    images = {name: len(split) for name in ("train", "val", "test") if (split := getattr(loaded, name)) is not None}
    return Training(splits, images, step, train, config.batch_size, renderer, swap, compilation, remembered)


# What DistributedDataParallel calls it to send buffers around before every step: the name changed in torch 2.15.
_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


def _parallel(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Exchange gradients with the other processes; buffers, such as running means, stay each process's own."""
    # Of axes of length one, as 1x1 kernels have, strides mean nothing, and still they are compared.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return DistributedDataParallel(
        network,
        device_ids=None if device.index is None else [device.index],
        gradient_as_bucket_view=True,
        **{_BUFFERS: False},  # type: ignore[arg-type]
    )
