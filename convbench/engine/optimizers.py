"""From a network and an optimizer's constructor to an optimizer, fused, with groups for what parameters ask for."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from convbench.errors import UserError


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Weights, then what weight decay would only harm, norms and biases (He et al., arXiv 1812.01187), then the rest.

    Norms hold vectors; a bias may have two dimensions, as a per-image convolution has one for each of its kernels. What
    else a parameter needs, a module says by a mapping `optimizer_options`, from names of parameters, as its
    `named_parameters` has them, to `weight_decay`, or to `lr_scale`, a factor on the learning rate: parameters that
    learn at a rate of their own are in groups of their own.
    """
    options = _options(network)
    decayed: dict[str, Any] = {"params": []}
    spared: dict[str, Any] = {"params": [], "weight_decay": 0.0}
    groups = {(None, 1.0): decayed, (0.0, 1.0): spared}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        wanted = options.get(parameter, {})
        decay = 0.0 if parameter.ndim <= 1 or name.endswith("bias") else wanted.get("weight_decay")
        scale = wanted.get("lr_scale", 1.0)
        if (decay, scale) not in groups:
            own = {} if decay is None else {"weight_decay": decay}
            groups[decay, scale] = {"params": [], "lr_scale": scale} | own
        groups[decay, scale]["params"].append(parameter)
    return list(groups.values())


def build_optimizer(factory: Callable[..., Optimizer], network: nn.Module, device: torch.device) -> Optimizer:
    """Make the optimizer, with PyTorch's fused kernels where it has them.

    On a GPU the learning rate becomes a tensor there: it is filled in place, so that compiled steps see a constant; and
    an optimizer that counts steps counts them there, so that a CUDA graph can hold its step.

    Args:
        factory: a partial of an optimizer class with its arguments.
        network: on its device already.
        device: of the network.

    Raises:
        UserError: if the optimizer does not take the arguments together.
    """
    known = inspect.signature(getattr(factory, "func", factory)).parameters
    wanted = {"fused": True} | ({"capturable": True} if device.type == "cuda" else {})
    given = getattr(factory, "keywords", {})
    if given.get("foreach") or given.get("differentiable") or "fused" in given:
        del wanted["fused"]  # a person's own choice of how it computes
    taken = {name: value for name, value in wanted.items() if name in known}
    try:
        optimizer = factory(parameter_groups(network), **taken)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the optimizer does not take these values: {error} (optimizer)") from error
    if device.type == "cuda":
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
    set_learning_rate(optimizer, float(optimizer.defaults["lr"]))
    return optimizer


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Write the learning rate where the optimizer reads it, times each group's `lr_scale`, without a host wait."""
    for group in optimizer.param_groups:
        rate = value * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _options(network: nn.Module) -> dict[nn.Parameter, dict[str, float]]:
    """What the modules of a network ask for their parameters."""
    found: dict[nn.Parameter, dict[str, float]] = {}
    for module in network.modules():
        for name, wanted in getattr(module, "optimizer_options", {}).items():
            found.setdefault(module.get_parameter(name), {}).update(wanted)
    return found
