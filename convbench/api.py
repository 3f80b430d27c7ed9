"""The Python interface; `convbench/__init__.py` exports its functions, and `docs/python.md` contains examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convbench.config.options import load_option, plain_values
from convbench.convs.auxiliary_loss import auxiliary_loss_methods
from convbench.convs.factory import ConvOption, conv_factory
from convbench.convs.swap import SwapReport
from convbench.convs.swap import swap_convs as swap_with_factory
from convbench.convs.temperature import temperature_buffers
from convbench.errors import UserError
from convbench.experiment.evaluation import Evaluation, Transform
from convbench.report.comparison import make_report
from convbench.report.settings import default_settings
from convbench.run_folders.record import RunRecord
from convbench.run_folders.run_folder import RunFolder


def swap_convs(
    network: nn.Module,
    conv: str | type[nn.Module] | Callable[..., nn.Module],
    skip: Sequence[str] | None = None,
    seed: int = 0,
    unsupported: str | None = None,
    **arguments: Any,
) -> tuple[nn.Module, SwapReport]:
    """Replace the convolutions of a network in place.

    The weights of a replaced layer, also pretrained ones, are kept if the new layer has parameters of the same names
    and shapes. Other layers are initialised from `seed` and the name of the layer. Call this function before the
    optimizer is created, because the optimizer needs the new parameters.

    Args:
        network: any module.
        conv: an option of the group `conv` such as `"weighted_sum"`, with the default arguments of its yaml file; or a
            class with the constructor of `nn.Conv2d`, or its dotted path; or any callable that takes the arguments of
            `nn.Conv2d` and returns a module.
        skip: the layers that are not replaced: `first`, `last`, `1x1`, or patterns on names such as `layer1.*`. With
            None, an option uses the value in its yaml file, and a class or callable replaces all layers.
        seed: the seed of the new weights.
        unsupported: the treatment of a layer that the convolution cannot replace: `error` raises an error, `skip` keeps
            the layer. With None, an option uses the value in its yaml file, and a class or callable uses `error`.
        **arguments: arguments of the convolution, such as `num_experts=8`; `bias` and `groups` apply to all layers.

    Returns:
        The network, which is a new object only if it is a convolution itself, and a report with one row for each
        convolution; `report.summary()` is a summary in one line.

    Raises:
        UserError: if there is no such option, an argument is unknown, or a layer cannot be replaced.
    """
    if isinstance(conv, str) and "." not in conv:
        option = ConvOption.of(plain_values(load_option("conv", conv, "conv")) | arguments)
        factory = option.factory
    else:
        factory = conv_factory(conv, **arguments) if isinstance(conv, str | type) else partial(conv, **arguments)
        option = ConvOption("", {}, [], "error")
    return swap_with_factory(
        network,
        factory,
        option.skip if skip is None else skip,
        seed,
        option.unsupported if unsupported is None else unsupported,
    )


def set_temperature(network: nn.Module, temperature: float) -> None:
    """Set the temperature of every convolution that has one, such as `dynamic` and `odconv`.

    The temperature divides the input of the softmax (or sigmoid) that computes the weights of the kernels for an image;
    published networks decrease it from 30 to 1 over the first ten epochs. The buffers are filled in place, so that a
    compiled network is not compiled again.

    Raises:
        UserError: if the temperature is not above 0.
    """
    if not temperature > 0:
        raise UserError(f"the temperature is {temperature}; give a number above 0 (temperature)")
    for buffer in temperature_buffers(network):
        buffer.fill_(temperature)


def auxiliary_loss(network: nn.Module) -> Tensor:
    """The sum of the auxiliary losses of all convolutions, a 0-d tensor; add it to the loss of each training step.

    Of the built-in types only `blueprint_s` has an auxiliary loss, which keeps the rows of a matrix orthonormal. The
    sum is 0 if no convolution has an auxiliary loss.
    """
    losses = [method() for method in auxiliary_loss_methods(network)]
    zero = next(network.parameters(), torch.zeros(())).new_zeros(())
    return sum((loss for loss in losses if loss is not None), zero)


class Run:
    """A run that was trained by `convbench.train`.

    Args:
        folder: the run folder.

    Attributes:
        folder: the run folder.
        record: the content of the folder, with properties such as `epochs_done` and `macs`, and methods such as
            `score("test", "accuracy")`.

    Raises:
        UserError: if the folder is not a run folder.
    """

    def __init__(self, folder: Path) -> None:
        opened = RunFolder.open(folder, "folder")
        self.folder = folder
        self.record: RunRecord = opened.record

    @property
    def results(self) -> Mapping[str, Any]:
        """The content of `results.json`."""
        return self.record.results

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, one for each epoch."""
        return self.record.rows

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration as nested dictionaries."""
        return self.record.config

    @property
    def status(self) -> str:
        """`finished`, `failed`, `interrupted`, `running` or `killed`."""
        return self.record.status

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs."""
        return self.record.classes

    @cached_property
    def transform(self) -> Transform:
        """The conversion of an image to the input of the network, exactly as in training.

        It takes a path, a PIL image or a uint8 array of shape (H, W) or (H, W, 3), resizes, crops and normalises the
        image, and returns float32, shape (C, H, W).
        """
        return self._evaluation("best").transform

    def network(self, checkpoint: str = "best", device: str = "cpu") -> nn.Module:
        """The trained network in evaluation mode; the data set of the run is not needed.

        Args:
            checkpoint: `best` for the epoch of the best validation accuracy, or `last`.
            device: `cpu`, `cuda` or `mps`.

        Raises:
            UserError: if there is no such checkpoint or device.
        """
        return self._evaluation(checkpoint, device).network.eval()

    def _evaluation(self, checkpoint: str, device: str = "cpu") -> Evaluation:
        folder = RunFolder.open(self.folder, "folder")
        config = folder.read_config()
        # Keep the settings of the calling program that apply to the whole process.
        config.engine.threads, config.engine.deterministic = None, torch.are_deterministic_algorithms_enabled()
        config.engine.device = device
        return Evaluation(folder, config, checkpoint)


def load_run(folder: str | Path) -> Run:
    """Read the folder of a run.

    Raises:
        UserError: if the folder is not a run folder.
    """
    return Run(Path(folder))


@dataclass(frozen=True)
class ComparisonTable:
    """The table of a comparison.

    Attributes:
        rows: one dictionary for each variant. It contains the keys that distinguish the variants, such as `conv`; the
            number of finished runs, `n`; and for each column the mean, the standard deviation (`..._deviation`) and
            half the width of the 95 % confidence interval (`..._half_interval`). Unknown values are None.
        findings: sentences on the variants that differ significantly.
        warnings: sentences on what makes the comparison less reliable.
    """

    rows: list[dict[str, Any]]
    findings: list[str]
    warnings: list[str]


def compare(folders: Sequence[str | Path], **settings: Any) -> ComparisonTable:
    """Compare runs as `python -m convbench.compare` does, but without writing any file.

    Args:
        folders: the folders of runs or of sweeps.
        **settings: `by`, `reference`, `difference`, `target_accuracy` and `test`, as in `conf/compare.yaml`.

    Raises:
        UserError: if a folder is missing, or the folders contain no runs.
    """
    report = make_report([Path(folder) for folder in folders], default_settings(**settings))
    return ComparisonTable(report.rows(), report.findings, report.warnings)
