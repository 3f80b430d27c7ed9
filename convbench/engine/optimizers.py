"""Construction of the optimizer: parameter groups, fused kernels and the learning rate."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from convbench.errors import UserError


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Divide the trainable parameters of a network into groups for an optimizer.

    The first group holds weights. The second group holds parameters without weight decay: those of norm layers, which
    are vectors, and biases (He et al., arXiv 1812.01187). A bias may have two dimensions, because a per-image
    convolution has one for each expert.

    A module can request other options with a mapping `optimizer_options`. Its keys are names of parameters as in
    `named_parameters`; its values are mappings with `weight_decay`, or with `lr_scale`, a factor on the learning rate.
    Each further combination of these two options forms a group after the first two.
    """
    options = _optimizer_options(network)
    with_decay: dict[str, Any] = {"params": []}
    without_decay: dict[str, Any] = {"params": [], "weight_decay": 0.0}
    groups = {(None, 1.0): with_decay, (0.0, 1.0): without_decay}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        requested = options.get(parameter, {})
        decay = 0.0 if parameter.ndim <= 1 or name.endswith("bias") else requested.get("weight_decay")
        scale = requested.get("lr_scale", 1.0)
        if (decay, scale) not in groups:
            weight_decay = {} if decay is None else {"weight_decay": decay}
            groups[decay, scale] = {"params": [], "lr_scale": scale} | weight_decay
        groups[decay, scale]["params"].append(parameter)
    return list(groups.values())


def build_optimizer(factory: Callable[..., Optimizer], network: nn.Module, device: torch.device) -> Optimizer:
    """Construct the optimizer, with PyTorch's fused kernels if it has any.

    On a GPU the learning rate is a tensor that is updated in place, so that compiled steps are not recompiled. An
    optimizer that counts its steps does so in a tensor on the GPU (`capturable`), so that a CUDA graph can capture it.

    Args:
        factory: A partial of an optimizer class with its arguments.
        network: The network, already on its device.
        device: The device of the network.

    Raises:
        UserError: The optimizer does not accept this combination of arguments.
    """
    accepted = inspect.signature(getattr(factory, "func", factory)).parameters
    preferred = {"fused": True} | ({"capturable": True} if device.type == "cuda" else {})
    given = getattr(factory, "keywords", {})
    if given.get("foreach") or given.get("differentiable") or "fused" in given:
        del preferred["fused"]  # the user has chosen an implementation of the step
    added = {name: value for name, value in preferred.items() if name in accepted}
    try:
        optimizer = factory(parameter_groups(network), **added)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the optimizer does not accept these values: {error} (optimizer)") from error
    if device.type == "cuda":
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
    set_learning_rate(optimizer, float(optimizer.defaults["lr"]))
    return optimizer


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Set the learning rate of each group, times its `lr_scale`, without waiting for the device."""
    for group in optimizer.param_groups:
        rate = value * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _optimizer_options(network: nn.Module) -> dict[nn.Parameter, dict[str, float]]:
    """The options that the modules of a network request for their parameters."""
    found: dict[nn.Parameter, dict[str, float]] = {}
    for module in network.modules():
        for name, requested in getattr(module, "optimizer_options", {}).items():
            found.setdefault(module.get_parameter(name), {}).update(requested)
    return found
