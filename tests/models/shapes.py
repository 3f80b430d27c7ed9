"""Shapes and sizes of networks, found by running them."""

import torch
from torch import nn


def shapes(network: nn.Module, image: tuple[int, int, int], *names: str) -> list[tuple[int, ...]]:
    """What the named modules give for one (C, H, W) image, without the batch; computed on tensors without values."""
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.update({name: tuple(output.shape[1:])})
        )
    network.to("meta").eval()(torch.empty(1, *image, device="meta"))
    return [found[name] for name in names]


def parameters(network: nn.Module) -> int:
    """Count all numbers that are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
