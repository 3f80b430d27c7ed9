"""The network of a configuration: built, its convolutions swapped, and its widths scaled to a budget if requested.

The modules of `convbench.models` and `convbench.convs` never see a configuration.
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

_BUDGET_KEYS = ("match", "match_to")  # the keys of `model` that are not arguments of the network


@dataclass(frozen=True)
class Matched:
    """The reference network whose parameter or operation count another network was matched to.

    Attributes:
        quantity: the quantity that was matched: `params`, or `macs` for multiply-accumulate operations.
        conv: the convolution of the reference network.
        params: the number of parameters of the reference network.
        macs: the number of multiply-accumulate operations of the reference network for one image.
        arguments: the arguments of the matched network that were changed: `widths`, and `depth` if it has one.
    """

    quantity: str
    conv: str
    params: int
    macs: int
    arguments: dict[str, Any]

    def summary(self, of: Summary) -> str:
        """A summary in one line: `174,787 parameters with standard; matched to ... (-0.3%) by widths 40, 80, 159`.

        Args:
            of: the costs of the matched network.
        """
        actual, target = (of.parameters, self.params) if self.quantity == "params" else (of.macs, self.macs)
        unit = "parameters" if self.quantity == "params" else "MACs"
        changes = ", ".join(f"{key} {str(value).strip('[]')}" for key, value in self.arguments.items())
        return f"{target:,} {unit} with {self.conv}; matched to {actual:,} ({actual / target - 1:+.1%}) by {changes}"


@dataclass(frozen=True)
class BuiltNetwork:
    """A network built for images of a given kind.

    Attributes:
        network: the network on the CPU, with its convolutions swapped.
        name: the name of the network, such as `resnet14`.
        num_classes: the number of logits.
        swap: the report on swapped and skipped convolutions.
        summary: the numbers of parameters and multiply-accumulate operations of each layer.
        matched: the reference network whose budget this network was matched to; None without matching.
    """

    network: nn.Module
    name: str
    num_classes: int
    swap: SwapReport
    summary: Summary
    matched: Matched | None


def build_network(config: DictConfig, spec: ImageSpec) -> BuiltNetwork:
    """Build the network of a configuration for images of the given kind.

    Raises:
        UserError: if the network, the convolution and the images do not fit together, or no widths match the budget.
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
    """The network with its convolutions swapped; `arguments` replace those of the configuration."""
    network = _network_before_swap(config, spec, **arguments)
    option = ConvOption.of(plain_values(conv))
    return swap_convs(network, option.factory, option.skip, config.seed, option.unsupported)


def _network_before_swap(config: DictConfig, spec: ImageSpec, **arguments: Any) -> nn.Module:
    """The network with its original convolutions; its initial weights depend only on the seed and its architecture."""
    keys = {key: value for key, value in plain_values(config.model).items() if key not in _BUDGET_KEYS}
    given = {"in_channels": spec.channels, "num_classes": _num_classes(config, spec)}
    if keys.get("in_channels") not in (None, spec.channels):
        raise UserError(
            f"the images have {spec.channels} channel{'s' * (spec.channels > 1)}, but the stem takes "
            f"{keys['in_channels']}: give model.in_channels={spec.channels} or null (model.in_channels)"
        )
    if "image_size" in keys:
        if keys["image_size"] not in (None, spec.image_size):
            raise UserError(
                f"the images are {spec.image_size} pixels wide, but the network expects {keys['image_size']}: "
                f"give model.image_size={spec.image_size} or null (model.image_size)"
            )
        given["image_size"] = spec.image_size
    torch.manual_seed(config.seed)
    network = instantiate(keys, "model", **given, **arguments)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{keys['_target_']} does not return an nn.Module: give a class or function that does (model._target_)"
        )
    smallest = getattr(network, "min_image_size", 1)
    if spec.image_size < smallest:
        raise UserError(
            f"images of {spec.image_size}x{spec.image_size} are too small for this network, which needs at least "
            f"{smallest}x{smallest}: give a larger data.image_size, or another model.stem or model.depth"
        )
    return network


def _num_classes(config: DictConfig, spec: ImageSpec) -> int:
    """The number of logits: that of the configuration, or else the number of classes."""
    num_classes: int = config.model.get("num_classes") or len(spec.classes)
    if num_classes < len(spec.classes):
        raise UserError(
            f"the network has {num_classes} outputs for {len(spec.classes)} classes: "
            f"give model.num_classes={len(spec.classes)} or null (model.num_classes)"
        )
    return num_classes


def _matched(config: DictConfig, spec: ImageSpec) -> Matched | None:
    """Find the widths with which the network has the same budget as its reference network.

    The reference is the same network with the convolution `model.match_to`, with the arguments of its yaml file but the
    `conv.skip` of this run. None if no matching is requested.
    """
    quantity, conv = config.model.match, config.model.match_to
    if quantity is None:
        return None
    reference_conv = load_option("conv", conv, "model.match_to")
    reference_conv.skip = config.conv.skip

    def built(conv: DictConfig, **arguments: Any) -> tuple[nn.Module, SwapReport]:
        with torch.device("meta"):  # counting needs only shapes
            return _swapped(config, conv, spec, **arguments)

    def summary_of(network: nn.Module) -> Summary:
        summary = _summary(network, spec)
        if quantity == "macs" and summary.uncounted:
            raise UserError(
                f"model.match=macs has to count all multiplications, but {summary.uncounted} cannot be counted: give "
                "model.match=params, or define the method multiply_accumulates in the class (model.match)"
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
            f"model.match={quantity} scales the widths of a network, but {type(reference).__name__} has none to scale: "
            "choose another model, or give model.match=null (model.match)"
        )
    budget = summary_of(reference)
    summary_of(built(config.conv)[0])
    target = budget.parameters if quantity == "params" else budget.macs
    arguments = match_budget(measure, target, widths, config.model.get("depth"))
    return Matched(quantity, conv, budget.parameters, budget.macs, arguments)


def _summary(network: nn.Module, spec: ImageSpec) -> Summary:
    """The costs of a network for one image."""
    try:
        return summarise(network, spec.channels, spec.image_size)
    except UserError:
        raise
    except RuntimeError as error:  # a network from elsewhere does not check its input before a layer fails
        raise UserError(
            f"the network cannot take {spec.channels}x{spec.image_size}x{spec.image_size} images ({error}): "
            f"try another data.image_size or model"
        ) from error
