"""The suite `loop` of `convbench.bench`: configuration, table, and files."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from convbench.benchmarks.ablation import LR, Loop, techniques
from convbench.benchmarks.outputs import bar_chart, write_csv
from convbench.config.instantiation import instantiate
from convbench.convs.base import AUTO, Conv2dBase
from convbench.data.types import ImageSpec, Splits
from convbench.engine.device import choose_device, describe_device, set_up, synchronize
from convbench.engine.memory import peak_memory_of
from convbench.engine.trainer import Trainer
from convbench.experiment.composition import compose
from convbench.experiment.network import build_network
from convbench.experiment.training import build_training
from convbench.files import write_json
from convbench.loggers.console import Console
from convbench.loggers.sink import RunStart
from convbench.loggers.tensorboard import TensorBoard
from convbench.run_folders.run_folder import RunFolder
from convbench.terminal import table
from convbench.tuning.clock import Times
from convbench.tuning.implementations import choose_implementations
from convbench.tuning.measurements import MeasurementCache

_EPOCHS = 1000  # length of the run of convbench.train, of which only some steps are measured
# Steps before each measurement. They use up the batches that the workers of a DataLoader have prefetched while other
# loops ran, and warm up the caches.
_WARM_UP_STEPS = 4
_USUAL, _BARE, _OURS = "the usual script", "bare loop", "convbench.train"  # the last one is measured compiled and eager


class Trained(Protocol):
    """The interface of a training loop that is measured."""

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        ...


class BareLoop:
    """A compiled training step on a constant batch, without augmentation, metrics and schedule."""

    def __init__(self, network: nn.Module, batch: Tensor, labels: Tensor) -> None:
        self.network = network.to(memory_format=torch.channels_last).train()
        self.network.compile()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        self.batch, self.labels = batch, labels

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        for _ in range(count):
            self.optimizer.zero_grad()
            functional.cross_entropy(self.network(self.batch), self.labels).backward()
            self.optimizer.step()


class OurLoop:
    """The training loop of `convbench.train`, with its console, TensorBoard, schedule, metrics and augmentation."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        composition = compose(config)
        training = build_training(config, composition, composition.source.load())
        self.trainer = Trainer(
            step=training.step,
            train=training.train,
            val=training.evaluation("val"),
            precision=config.engine.autocast,
            folder=RunFolder(folder),
            log_every=config.engine.log_every,
        )
        tensorboard = TensorBoard()
        tensorboard.on_run_start(RunStart(folder, {}, training.step.has_temperature, 0))
        self.trainer.sinks = [Console(), tensorboard]
        self.batches = self._endless_batches()

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        for _ in range(count):
            self.trainer.train_step(*next(self.batches))

    def _endless_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        trainer = self.trainer
        while True:
            trainer.begin_epoch()
            yield from trainer.train.epoch(trainer.progress.epoch)
            trainer.progress.epoch, trainer.progress.index = trainer.progress.epoch + 1, 0


def run_loop(config: DictConfig, folder: Path) -> None:
    """Measure the ablation, print its table, and write `loop.csv`, `loop.json` and `loop.png`.

    Args:
        config: composed configuration of `convbench.bench`.
        folder: folder to write to.

    Raises:
        UserError: A value of the configuration is not allowed, or the data is missing.
    """
    device = choose_device(config.engine.device)
    set_up(device, config.engine.threads, deterministic=False)
    source = instantiate(config.data, "data")
    spec, splits = source.spec(), source.load()

    def build(has_bias: bool) -> nn.Module:
        with_bias = OmegaConf.merge(config, {"conv": {"bias": True}} if has_bias else {})
        assert isinstance(with_bias, DictConfig)
        with torch.random.fork_rng(devices=[]):
            return build_network(with_bias, spec).network

    with tempfile.TemporaryDirectory() as scratch:
        loops = _loops(config, build, splits, spec, device, Path(scratch))
        measured = _measure_interleaved(loops, config.loop, device)
    rows = _rows(measured, config.batch_size)
    _print_table(rows, config.batch_size, device)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "loop.csv", rows)
    environment = {"device": describe_device(device), "versions": {"torch": torch.__version__}}
    settings = {"conv": OmegaConf.to_container(config.conv), "loop": OmegaConf.to_container(config.loop)}
    write_json(folder / "loop.json", {**environment, **settings, "rungs": rows}, indent=1)
    bars = {row["rung"]: row["images_per_second"] for row in rows}
    marked = [row["rung"] for row in rows if row["kind"] != "up"]
    bar_chart(folder / "loop.png", bars, f"Training loops, {describe_device(device)}", "images/s", marked)


def _loops(
    config: DictConfig,
    build: Callable[[bool], nn.Module],
    splits: Splits,
    spec: ImageSpec,
    device: torch.device,
    scratch: Path,
) -> dict[tuple[str, str], Callable[[], Trained]]:
    """The constructors of all loops to measure, by kind (`up`, `down`, `whole`) and name."""
    chosen = config.loop
    batch = torch.randn(config.batch_size, spec.channels, spec.image_size, spec.image_size, device=device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    measurements = MeasurementCache(Path(config.engine.cache), device)
    has_choice = any(isinstance(conv, Conv2dBase) and conv.implementation == AUTO for conv in build(False).modules())
    names = techniques(device, has_choice)

    def choose(network: nn.Module, precision: str, memory_format: torch.memory_format) -> nn.Module:
        choose_implementations(network, batch.contiguous(memory_format=memory_format), precision, measurements)
        return network

    augment = instantiate(config.augment, "augment")

    def loop(*used: str) -> Callable[[], Trained]:
        return lambda: Loop(
            build, choose, splits, augment, len(spec.classes), config.batch_size, device, frozenset(used), config.seed
        )

    loops: dict[tuple[str, str], Callable[[], Trained]] = {("up", _USUAL): loop()}
    if chosen.rungs != "down":
        loops |= {("up", f"+ {name}"): loop(*names[: index + 1]) for index, name in enumerate(names)}
    else:
        loops["up", "everything"] = loop(*names)
    if chosen.rungs != "up":
        for name in names:
            loops["down", f"without {name}"] = loop(*(other for other in names if other != name))
    labels = torch.randint(len(spec.classes), (config.batch_size,), device=device)
    loops["whole", _BARE] = lambda: BareLoop(
        choose(build(False).to(device), "none", torch.channels_last), batch, labels
    )
    for is_compiled, how in ((True, "compiled"), (False, "eager")):
        long_run = OmegaConf.merge(config, {"epochs": _EPOCHS, "engine": {"compile": is_compiled}})
        assert isinstance(long_run, DictConfig)
        loops["whole", f"{_OURS}, {how}"] = partial(OurLoop, long_run, scratch / how)
    return loops


def _measure_interleaved(
    constructors: dict[tuple[str, str], Callable[[], Trained]], settings: DictConfig, device: torch.device
) -> dict[tuple[str, str], dict[str, Any]]:
    """The seconds per step of each loop in every round, and its peak memory in a step, in bytes.

    Every round measures all loops one after the other, so that other load on the machine affects all of them alike.
    """
    loops: dict[tuple[str, str], Trained] = {}
    measured: dict[tuple[str, str], dict[str, Any]] = {}
    for key, constructor in tqdm(constructors.items(), desc="building", disable=None, dynamic_ncols=True):
        loops[key] = constructor()
        loops[key].steps(_WARM_UP_STEPS)
        measured[key] = {"seconds": [], "memory": peak_memory_of(partial(loops[key].steps, 1), device)}
    for _ in tqdm(range(settings.rounds), desc="rounds", disable=None, dynamic_ncols=True):
        for key, loop in loops.items():
            loop.steps(_WARM_UP_STEPS)
            synchronize(device)
            begin = time.perf_counter()
            loop.steps(settings.steps)
            synchronize(device)
            measured[key]["seconds"].append((time.perf_counter() - begin) / settings.steps)
    return measured


def _rows(measured: dict[tuple[str, str], dict[str, Any]], batch_size: int) -> list[dict[str, Any]]:
    """A row for each loop: its median time, and its speed relative to other loops.

    Relative speeds are medians of the ratios within each round: load on the machine that slows down a whole round
    cancels out.
    """
    usual = measured["up", _USUAL]["seconds"]
    full_set = [value for key, value in measured.items() if key[0] == "up"][-1]["seconds"]
    rows, previous = [], usual
    for (kind, name), found in measured.items():
        seconds = found["seconds"]
        gain = None
        if kind == "up":
            gain, previous = _ratio(previous, seconds), seconds
        elif kind == "down":
            gain = _ratio(seconds, full_set)
        rows.append(
            {
                "kind": kind,
                "rung": name,
                "seconds_per_step": statistics.median(seconds),
                "spread": Times(tuple(seconds)).spread,
                "images_per_second": batch_size / statistics.median(seconds),
                "memory": found["memory"],
                "times_the_usual": _ratio(usual, seconds),
                "times_the_bare": _ratio(measured["whole", _BARE]["seconds"], seconds),
                "gain": gain,
            }
        )
    return rows


def _ratio(slow: list[float], fast: list[float]) -> float:
    """The median over all rounds of the time of the slow loop divided by the time of the fast loop."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def _print_table(rows: list[dict[str, Any]], batch_size: int, device: torch.device) -> None:
    print(f"\ntraining steps of {batch_size} images on {describe_device(device)}")
    print("gain of '+ technique': speed relative to the row above")
    print("gain of 'without technique': speed of all techniques relative to this row")
    print("the usual script: DataLoader, PIL transforms and .item() in each step; x usual: speed relative to it")
    print("+- %: half the interquartile range; MB: peak memory\n")
    head = ["loop", "ms a step", "+- %", "images/s", "MB", "gain", "x usual"]
    cells = [
        [
            row["rung"],
            f"{1000 * row['seconds_per_step']:.1f}",
            f"{100 * row['spread']:.0f}",
            f"{row['images_per_second']:.0f}",
            "" if row["memory"] is None else f"{row['memory'] / 1e6:.0f}",
            "" if row["gain"] is None else f"{row['gain']:.2f}",
            f"{row['times_the_usual']:.2f}",
        ]
        for row in rows
    ]
    print(table([head, *cells]))
