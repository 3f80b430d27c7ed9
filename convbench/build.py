"""From a composed configuration to objects, in the one right order; nothing below this file sees a configuration.

First what costs nothing and can be wrong (the data's facts, the network, the swap), then the images, then what needs
both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer

from convbench.convs.factory import conv_factory
from convbench.convs.swap import SwapReport, swap_convs
from convbench.count import Summary, summarise
from convbench.data.augment import Augment, Renderer
from convbench.data.resident import EvalBatches, TrainBatches, to_device
from convbench.data.types import ImageSpec, Source, Splits
from convbench.engine.device import choose_device, set_up
from convbench.engine.optimizers import build_optimizer
from convbench.engine.schedules import Anneal, Clock, Schedule
from convbench.engine.step import TrainStep
from convbench.errors import UserError
from convbench.seeding import stable_seed


@dataclass(frozen=True)
class Composition:
    """A network fitted to a data set of which no image has been read yet.

    Attributes:
        source: will read the images.
        spec: their channels, size and classes.
        network: on the CPU, convolutions swapped.
        model: name of the network, such as `resnet14`.
        swap: what was swapped and skipped.
        summary: parameters and multiply-accumulate operations, layer by layer.
        num_classes: logits of the network.
        augment: how training images are varied.
        schedule, anneal: learning rate and temperature over the run.
        optimizer: constructor of the optimizer, its arguments bound.
        device: where it is to run.
    """

    source: Source
    spec: ImageSpec
    network: nn.Module
    model: str
    swap: SwapReport
    summary: Summary
    num_classes: int
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
    source: Source = _make(config, "data")
    spec = source.spec()
    augment: Augment = _make(config, "augment")
    augment.check(spec.image_size)
    num_classes = config.model.num_classes or len(spec.classes)
    network = _network(config, spec, num_classes)
    keys = OmegaConf.to_container(config.conv, resolve=True)
    assert isinstance(keys, dict)
    skip, unsupported = keys.pop("skip"), keys.pop("unsupported")
    factory = conv_factory(keys.pop("_target_"), **{str(key): value for key, value in keys.items()})
    network, swap = swap_convs(network, factory, skip, config.seed, unsupported)
    return Composition(
        source=source,
        spec=spec,
        network=network,
        model=getattr(network, "name", type(network).__name__.lower()),
        swap=swap,
        summary=_summary(network, spec),
        num_classes=num_classes,
        augment=augment,
        schedule=_make(config, "schedule"),
        anneal=_make(config, "temperature"),
        optimizer=_make(config, "optimizer"),
        device=device,
    )


def _make(config: DictConfig, group: str, **given: Any) -> Any:
    """The object that a group's yaml describes.

    Raises:
        UserError: what the constructor says is wrong; or that a value is of the wrong type.
    """
    try:
        return instantiate(config[group], _convert_="all", **given)
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError):
            raise UserError(f"{group} has a value of the wrong type, or a key too many: {error.__cause__}") from error
        raise


def _network(config: DictConfig, spec: ImageSpec, num_classes: int) -> nn.Module:
    """The plain network, with what the data decides filled in; its initial weights depend on the seed alone."""
    in_channels = config.model.in_channels
    if in_channels not in (None, spec.channels):
        raise UserError(
            f"the images have {spec.channels} channel{'s' * (spec.channels > 1)}, but the stem takes {in_channels}: "
            f"give model.in_channels={spec.channels} or null (model.in_channels)"
        )
    if num_classes < len(spec.classes):
        raise UserError(
            f"the network has {num_classes} outputs for {len(spec.classes)} classes: "
            f"give model.num_classes={len(spec.classes)} or null (model.num_classes)"
        )
    torch.manual_seed(config.seed)
    network: nn.Module = _make(config, "model", in_channels=spec.channels, num_classes=num_classes)
    smallest = getattr(network, "min_image_size", 1)
    if spec.image_size < smallest:
        raise UserError(
            f"images of {spec.image_size}x{spec.image_size} are too small for this network, which needs at least "
            f"{smallest}x{smallest}: give a larger data.image_size, or another model.stem or model.depth"
        )
    return network


def _summary(network: nn.Module, spec: ImageSpec) -> Summary:
    try:
        return summarise(network, spec.channels, spec.image_size)
    except UserError:
        raise
    except RuntimeError as error:  # a network not of ours, which checks nothing before it fails in a layer
        raise UserError(
            f"the network cannot take {spec.channels}x{spec.image_size}x{spec.image_size} images ({error}): "
            f"try another data.image_size or model"
        ) from error


def build_training(config: DictConfig, composition: Composition) -> Training:
    """Read the images and build what trains on them.

    Raises:
        UserError: if images are missing or corrupt, or fewer than a batch.
    """
    engine, device = config.engine, composition.device
    splits = to_device(composition.source.load(), device)
    renderer = Renderer(splits.mean, splits.std, composition.augment, engine.channels_last, device)
    network = composition.network.to(device)
    if engine.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if engine.compile:
        network.compile()  # in place: names of parameters stay as they are
    train = TrainBatches(splits.train, config.batch_size, renderer, composition.num_classes, config.seed)
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
