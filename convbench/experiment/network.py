"""From the groups `model` and `conv` to a network: built, convolutions swapped, and of a given budget if asked for.

Nothing below this file sees a configuration.
"""

from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from convbench.config.instantiation import instantiate
from convbench.config.options import load_option, plain_values
from convbench.convs.factory import ConvOption
from convbench.convs.swap import SwapReport, swap_convs
from convbench.data.types import ImageSpec
from convbench.errors import UserError
from convbench.models.counting import Summary, count_parameters, summarise
from convbench.models.matching import Candidate, match_budget

_OF_THE_BUDGET = ("match", "match_to")  # keys of `model` that are no arguments of the network


@dataclass(frozen=True)
class Matched:
    """The network whose budget another one was given.

    Attributes:
        quantity: what is alike, `params` or `macs`.
        conv: convolution of the reference network.
        params, macs: of the reference network.
        arguments: what the matched network was given to be alike: `widths`, and `depth` where it has one.
    """

    quantity: str
    conv: str
    params: int
    macs: int
    arguments: dict[str, Any]

    def summary(self, of: Summary) -> str:
        """Say it in a line: `174,787 parameters of standard, matched to -0.3 % with widths 40, 80, 159`."""
        have, wanted = (of.parameters, self.params) if self.quantity == "params" else (of.macs, self.macs)
        what = "parameters" if self.quantity == "params" else "MACs"
        scaled = ", ".join(f"{key} {str(value).strip('[]')}" for key, value in self.arguments.items())
        return f"{wanted:,} {what} with {self.conv}; matched to {have:,} ({have / wanted - 1:+.1%}) by {scaled}"


@dataclass(frozen=True)
class BuiltNetwork:
    """A network fitted to the images it is to see.

    Attributes:
        network: on the CPU, convolutions swapped.
        name: such as `resnet14`.
        num_classes: logits.
        swap: what was swapped and skipped.
        summary: parameters and multiply-accumulate operations, layer by layer.
        matched: the network whose budget this one was given, if any.
    """

    network: nn.Module
    name: str
    num_classes: int
    swap: SwapReport
    summary: Summary
    matched: Matched | None


def build_network(config: DictConfig, spec: ImageSpec) -> BuiltNetwork:
    """Build the network of a configuration for images of this kind.

    Raises:
        UserError: whatever a user can mend.
    """
    matched = _matched(config, spec)
    network, swap = _swapped(config, config.conv, spec, **(matched.arguments if matched else {}))
    return BuiltNetwork(
        network=network,
        name=getattr(network, "name", type(network).__name__.lower()),
        num_classes=_num_classes(config, spec),
        swap=swap,
        summary=_summary(network, spec),
        matched=matched,
    )


def _swapped(config: DictConfig, conv: DictConfig, spec: ImageSpec, **arguments: Any) -> tuple[nn.Module, SwapReport]:
    """The network with its convolutions swapped; `arguments` go before those of its yaml."""
    network = _plain(config, spec, **arguments)
    option = ConvOption.of(plain_values(conv))
    return swap_convs(network, option.factory, option.skip, config.seed, option.unsupported)


def _plain(config: DictConfig, spec: ImageSpec, **arguments: Any) -> nn.Module:
    """The network before the swap, with what the data decides filled in; its weights depend on the seed alone."""
    keys = {key: value for key, value in plain_values(config.model).items() if key not in _OF_THE_BUDGET}
    given = {"in_channels": spec.channels, "num_classes": _num_classes(config, spec)}
    if keys.get("in_channels") not in (None, spec.channels):
        raise UserError(
            f"the images have {spec.channels} channel{'s' * (spec.channels > 1)}, but the stem takes "
            f"{keys['in_channels']}: give model.in_channels={spec.channels} or null (model.in_channels)"
        )
    if "image_size" in keys:
        if keys["image_size"] not in (None, spec.image_size):
            raise UserError(
                f"the images are {spec.image_size} pixels wide, but the network is for {keys['image_size']}: "
                f"give model.image_size={spec.image_size} or null (model.image_size)"
            )
        given["image_size"] = spec.image_size
    torch.manual_seed(config.seed)
    network = instantiate(keys, "model", **given, **arguments)
    if not isinstance(network, nn.Module):
        raise UserError(f"{keys['_target_']} gives no network: name a class or function that does (model._target_)")
    smallest = getattr(network, "min_image_size", 1)
    if spec.image_size < smallest:
        raise UserError(
            f"images of {spec.image_size}x{spec.image_size} are too small for this network, which needs at least "
            f"{smallest}x{smallest}: give a larger data.image_size, or another model.stem or model.depth"
        )
    return network


def _num_classes(config: DictConfig, spec: ImageSpec) -> int:
    num_classes: int = config.model.get("num_classes") or len(spec.classes)
    if num_classes < len(spec.classes):
        raise UserError(
            f"the network has {num_classes} outputs for {len(spec.classes)} classes: "
            f"give model.num_classes={len(spec.classes)} or null (model.num_classes)"
        )
    return num_classes


def _matched(config: DictConfig, spec: ImageSpec) -> Matched | None:
    """Find the widths at which the network has the budget of the same network with another convolution.

    The reference has the convolution `model.match_to` as its yaml says, but this run's `conv.skip`.
    """
    quantity, conv = config.model.match, config.model.match_to
    if quantity is None:
        return None
    reference_conv = load_option("conv", conv, "model.match_to")
    reference_conv.skip = config.conv.skip

    def built(conv: DictConfig, **arguments: Any) -> tuple[nn.Module, SwapReport]:
        with torch.device("meta"):  # shapes are all that is counted
            return _swapped(config, conv, spec, **arguments)

    def summary_of(network: nn.Module) -> Summary:
        summary = _summary(network, spec)
        if quantity == "macs" and summary.uncounted:
            raise UserError(
                f"model.match=macs needs to count all multiplications, and {summary.uncounted} cannot be counted: give "
                "model.match=params, or give the class a method multiply_accumulates (model.match)"
            )
        return summary

    def measure(**arguments: Any) -> Candidate:
        network, swap = built(config.conv, **arguments)
        cost = count_parameters(network) if quantity == "params" else summary_of(network).macs
        return Candidate(cost, frozenset(row.name for row in swap.swapped))

    reference, _ = built(reference_conv)
    widths = getattr(reference, "widths", None)
    if widths is None:
        raise UserError(
            f"model.match={quantity} scales the widths of a network, and {type(reference).__name__} has none to scale: "
            f"choose another model, or leave model.match away (model.match)"
        )
    budget = summary_of(reference)
    summary_of(built(config.conv)[0])
    target = budget.parameters if quantity == "params" else budget.macs
    arguments = match_budget(measure, target, widths, config.model.get("depth"))
    return Matched(quantity, conv, budget.parameters, budget.macs, arguments)


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
