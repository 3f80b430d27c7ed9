"""From a composed configuration to objects, in the one right order; nothing below this file sees a configuration.

First what costs nothing and can be wrong (the data's facts, the network, the swap), then the images, then what needs
both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from convbench.data.augment import Augment, Renderer
from convbench.data.resident import EvalBatches, TrainBatches, to_device
from convbench.data.types import ImageSpec, Source, Splits
from convbench.engine.device import choose_device, set_up
from convbench.engine.optimizers import build_optimizer
from convbench.engine.schedules import Anneal, Clock, Schedule
from convbench.engine.step import TrainStep
from convbench.network import BuiltNetwork, build_network, make
from convbench.seeding import stable_seed


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
class Training:
    """Everything a run trains with.

    Attributes:
        splits: the images, on the device.
        step: a training step; `step.network` is the network.
        train: its batches.
        eval_batch_size, renderer: for batches of the other splits.
    """

    splits: Splits
    step: TrainStep
    train: TrainBatches
    eval_batch_size: int
    renderer: Renderer

    def evaluation(self, split: str) -> EvalBatches:
        """Batches of `val` or `test`."""
        return EvalBatches(getattr(self.splits, split), self.eval_batch_size, self.renderer)


def compose(config: DictConfig) -> Composition:
    """Build data source and network; reads no image.

    Args:
        config: passed by `convbench.config.check`.

    Raises:
        UserError: whatever a user can mend.
    """
    device = choose_device(config.engine.device)
    set_up(device, config.engine.threads, config.engine.deterministic)
    source: Source = make(config.data, "data")
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


def build_training(config: DictConfig, composition: Composition) -> Training:
    """Read the images and build what trains on them.

    Raises:
        UserError: if images are missing or corrupt, or fewer than a batch.
    """
    engine, device = config.engine, composition.device
    splits = to_device(composition.source.load(), device)
    renderer = Renderer(splits.mean, splits.std, composition.augment, engine.channels_last, device)
    network = composition.built.network.to(device)
    if engine.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if engine.compile:
        network.compile()  # in place: names of parameters stay as they are
    train = TrainBatches(splits.train, config.batch_size, renderer, composition.built.num_classes, config.seed)
    step = TrainStep(
        network=network.train(),
        optimizer=build_optimizer(composition.optimizer, network, device),
        criterion=nn.CrossEntropyLoss(label_smoothing=config.label_smoothing),
        schedule=composition.schedule,
        anneal=composition.anneal,
        clock=Clock(config.epochs, len(train)),
        precision=engine.autocast,
        device=device,
    )
    # Building convolutions of different types must not shift what dropout draws.
    torch.manual_seed(stable_seed(config.seed, "dropout"))
    return Training(splits, step, train, config.batch_size, renderer)
