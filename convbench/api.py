"""The functions for programs of one's own; `convbench/__init__.py` makes them known, `docs/python.md` shows them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convbench.config.options import load_option, plain_values
from convbench.convs.factory import ConvOption, conv_factory
from convbench.convs.swap import SwapReport
from convbench.convs.swap import swap_convs as swap_with_factory
from convbench.convs.temperature import temperature_buffers
from convbench.errors import UserError
from convbench.experiment.evaluation import Evaluation, Transform
from convbench.report.comparison import make_report
from convbench.report.settings import default_settings
from convbench.run_folders.folder import RunFolder
from convbench.run_folders.record import RunRecord


def swap_convs(
    network: nn.Module,
    conv: str | type[nn.Module] | Callable[..., nn.Module],
    skip: Sequence[str] | None = None,
    seed: int = 0,
    unsupported: str | None = None,
    **arguments: Any,
) -> tuple[nn.Module, SwapReport]:
    """Replace the convolutions of a network, in place.

    Values of the replaced layers, also pretrained ones, are kept wherever the new layer has parameters of the same
    names and shapes; the weights of other layers are drawn from `seed` and the name of the layer. Swap before the
    optimizer is made, as it has to see the new parameters.

    Args:
        network: any module.
        conv: an option of the group `conv` such as `"weighted_sum"`, with the defaults of its yaml; or a class with the
            constructor of `nn.Conv2d`; or any callable that takes the arguments of `nn.Conv2d` and gives a module.
        skip: layers that stay as they are: `first`, `last`, `1x1`, or patterns on names such as `layer1.*`; None for
            what the yaml of the option says, and for none of a class.
        seed: of the weights that are drawn.
        unsupported: what happens to a layer that the convolution cannot replace: `error` raises, `skip` leaves it as
            it is; None for what the yaml of the option says, and `error` for a class.
        **arguments: arguments of the convolution, such as `num_experts=8`; `bias` and `groups` are set for all layers.

    Returns:
        The network (a new object only if the network is a convolution itself), and a report with a row for each
        convolution; `print(report.summary())` says it in a line.

    Raises:
        UserError: if there is no such option, an argument is unknown, or a layer cannot be replaced.
    """
    if isinstance(conv, str) and "." not in conv:
        option = ConvOption.of(plain_values(load_option("conv", conv, "conv")) | arguments)
        factory, of_option = option.factory, option
    else:
        factory = conv_factory(conv, **arguments) if isinstance(conv, str | type) else partial(conv, **arguments)
        of_option = ConvOption("", {}, [], "error")
    return swap_with_factory(
        network,
        factory,
        of_option.skip if skip is None else skip,
        seed,
        of_option.unsupported if unsupported is None else unsupported,
    )


def set_temperature(network: nn.Module, temperature: float) -> None:
    """Set the temperature of every convolution that has one, such as `dynamic` and `odconv`.

    It is the temperature of the softmax (or sigmoid) by which an image weights the kernels; published networks let it
    fall from 30 to 1 over the first ten epochs. The value is filled in place, so a compiled network stays compiled.

    Raises:
        UserError: if the temperature is not above 0.
    """
    if not temperature > 0:
        raise UserError(f"the temperature is {temperature}; give a number above 0 (temperature)")
    for buffer in temperature_buffers(network):
        buffer.fill_(temperature)


def auxiliary_loss(network: nn.Module) -> Tensor:
    """The sum of the losses that convolutions ask for beside that of the task, 0-d; add it to the loss of each step.

    Of the built-in types `blueprint_s` has one, which keeps the rows of a matrix orthonormal. It is 0 where no
    convolution asks for any.
    """
    functions: list[Any] = [getattr(module, "auxiliary_loss", None) for module in network.modules()]
    there = [loss for function in functions if function is not None and (loss := function()) is not None]
    if there:
        return torch.stack(there).sum()
    like = next(network.parameters(), torch.zeros(()))
    return like.new_zeros(())


class Run:
    """A run that was trained by `convbench.train`.

    Args:
        folder: the run folder.

    Attributes:
        folder: the run folder.
        record: what the folder says, with properties such as `epochs_done`, `macs` and `score("test", "accuracy")`.
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
        """The names of the classes, in the order of the outputs of the network."""
        return self.record.classes

    @cached_property
    def transform(self) -> Transform:
        """Turns an image (a path, a PIL image, or uint8 `(H, W)` or `(H, W, 3)`) into float32 `(C, H, W)`.

        The image is resized, cut and normalised exactly as those that the network was trained on.
        """
        return self._evaluation("best").transform

    def network(self, checkpoint: str = "best", device: str = "cpu") -> nn.Module:
        """The trained network in evaluation mode.

        The data that it was trained on are not needed.

        Args:
            checkpoint: `best` (by validation accuracy) or `last`.
            device: `cpu`, `cuda` or `mps`.

        Raises:
            UserError: if there is no such checkpoint or device.
        """
        return self._evaluation(checkpoint, device).network.eval()

    def _evaluation(self, checkpoint: str, device: str = "cpu") -> Evaluation:
        folder = RunFolder.open(self.folder, "folder")
        config = folder.read_config()
        # Settings of the whole process are left as the program has them.
        config.engine.threads, config.engine.deterministic = None, torch.are_deterministic_algorithms_enabled()
        config.engine.device = device
        return Evaluation(folder, config, checkpoint)


def load_run(folder: str | Path) -> Run:
    """Read the folder of a run.

    Raises:
        UserError: if it is not a run folder.
    """
    return Run(Path(folder))


@dataclass(frozen=True)
class ComparisonTable:
    """The table of a comparison.

    Attributes:
        rows: a dictionary for each variant: what sets it apart, such as `conv`; `n`, the number of finished runs; and
            for each column its mean, its standard deviation (`..._deviation`) and half its 95 % interval
            (`..._half_interval`), None where there is none.
        findings: sentences on which variants differ by more than chance.
        warnings: sentences on what makes the comparison less believable.
    """

    rows: list[dict[str, Any]]
    findings: list[str]
    warnings: list[str]


def compare(folders: Sequence[str | Path], **settings: Any) -> ComparisonTable:
    """Compare runs, as `python -m convbench.compare` does, without writing anything.

    Args:
        folders: of runs or of sweeps.
        **settings: `by`, `reference`, `difference`, `target_accuracy` and `test`, as in `conf/compare.yaml`.

    Raises:
        UserError: if a folder is missing, or there are no runs in it.
    """
    paths = [Path(folder) for folder in folders]
    missing = [str(path) for path in paths if not path.is_dir()]
    if missing:
        raise UserError(f"there is no folder {', '.join(missing)}; give folders of runs or of sweeps (folders)")
    report = make_report(paths, default_settings(**settings))
    return ComparisonTable(report.rows(), report.findings, report.warnings)
