"""From a network and an optimizer's constructor to an optimizer, fused, with weight decay where it belongs."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from convbench.errors import UserError


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Two groups: weights, and what weight decay would only harm, norms and biases (He et al., arXiv 1812.01187).

    Norms hold vectors; a bias may have two dimensions, as a per-image convolution has one for each of its kernels.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (spared if parameter.ndim <= 1 or name.endswith("bias") else decayed).append(parameter)
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]


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
    return optimizer


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Write the learning rate where the optimizer reads it, without a host wait."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
