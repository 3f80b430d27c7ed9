"""What can be built before any image is read: the data source, the network fitted to its images, the recipe."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch.optim import Optimizer

from convbench.config.instantiation import instantiate
from convbench.data.augment import Augment
from convbench.data.identity import Identity, KnownSource
from convbench.data.types import ImageSpec, Source
from convbench.engine.device import choose_device, set_up
from convbench.engine.schedules import Anneal, Schedule
from convbench.experiment.network import BuiltNetwork, build_network
from convbench.run_folders.folder import RunFolder
from convbench.tuning.compilation import set_compile_cache

log = logging.getLogger("convbench")


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


def compose(config: DictConfig, identity: Identity | None = None) -> Composition:
    """Build data source and network; reads no image.

    Args:
        config: accepted by `convbench.config.schema.check`.
        identity: of the data of an existing run; these images alone are read then, and the network is fitted to them.

    Raises:
        UserError: whatever a user can mend.
    """
    set_compile_cache(Path(config.engine.cache))
    device = choose_device(config.engine.device)
    set_up(device, config.engine.threads, config.engine.deterministic)
    source: Source = instantiate(config.data, "data")
    if identity is not None:
        source = KnownSource(source, identity)
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
    """The identity of the data of an existing run; None for a run that has read no data yet.

    Warns of a run of a version that recorded no identity: its data cannot be verified.
    """
    recorded = folder.results.get("identity")
    if recorded is not None:
        return Identity.from_json(recorded, folder.read_data())
    if folder.last_checkpoint.exists():
        log.warning("%s was begun by an earlier version: its data cannot be verified", folder.path)
    return None
