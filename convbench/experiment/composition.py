"""The parts of an experiment that can be built before any image is read, such as the data source and the network."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch.optim import Optimizer

from convbench.config.instantiation import instantiate
from convbench.data.augment import Augment
from convbench.data.identity import Identity, RecordedSource
from convbench.data.types import ImageSpec, Source
from convbench.engine.device import choose_device, set_up
from convbench.engine.schedules import Anneal, Schedule
from convbench.experiment.network import BuiltNetwork, build_network
from convbench.run_folders.run_folder import RunFolder
from convbench.tuning.compilation import set_compile_cache

log = logging.getLogger("convbench")


@dataclass(frozen=True)
class Composition:
    """The parts of an experiment that are built before any image is read.

    Attributes:
        source: the data source, which reads the images later.
        spec: the channels, the size and the classes of the images.
        built: the network on the CPU, with its costs.
        augment: the augmentation of the training images.
        schedule: the schedule of the learning rate.
        anneal: the schedule of the softmax temperature.
        optimizer: the constructor of the optimizer with its arguments bound; takes the parameters.
        device: the device on which the network will be computed.
    """

    source: Source
    spec: ImageSpec
    built: BuiltNetwork
    augment: Augment
    schedule: Schedule
    anneal: Anneal
    optimizer: Callable[..., Optimizer]
    device: torch.device


def compose(config: DictConfig, identity: Identity | None = None) -> Composition:
    """Build the data source and the network without reading any image.

    Args:
        config: a configuration that `convbench.config.schema.check` accepts.
        identity: the identity of the data of an existing run; only these images will be read, and the network is built
            for them.

    Raises:
        UserError: if a value does not fit the device, the data or the network.
    """
    set_compile_cache(Path(config.engine.cache))
    device = choose_device(config.engine.device)
    set_up(device, config.engine.threads, config.engine.deterministic)
    source: Source = instantiate(config.data, "data")
    if identity is not None:
        source = RecordedSource(source, identity)
    spec = source.spec()
    augment: Augment = instantiate(config.augment, "augment")
    augment.check(spec.image_size)
    built = build_network(config, spec)
    return Composition(
        source=source,
        spec=spec,
        built=built,
        augment=augment,
        schedule=instantiate(config.schedule, "schedule"),
        anneal=instantiate(config.temperature, "temperature"),
        optimizer=instantiate(config.optimizer, "optimizer"),
        device=device,
    )


def recorded_identity(folder: RunFolder) -> Identity | None:
    """The identity of the data of an existing run; None if the run has not read its data yet.

    Runs of an earlier version did not record the identity. For them, a warning is logged and None is returned.
    """
    recorded = folder.results.get("identity")
    if recorded is not None:
        return Identity.from_json(recorded, folder.read_data())
    if folder.last_checkpoint.exists():
        log.warning("%s was started by an earlier version, so its data cannot be verified", folder.path)
    return None
