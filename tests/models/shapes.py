"""Output shapes and parameter counts of networks."""

import torch
from torch import nn


def shapes(network: nn.Module, image: tuple[int, int, int], *names: str) -> list[tuple[int, ...]]:
    """Return the output shapes, without the batch, of the named modules for one (C, H, W) image on the meta device."""
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.update({name: tuple(output.shape[1:])})
        )
    network.to("meta").eval()(torch.empty(1, *image, device="meta"))
    return [found[name] for name in names]


def parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
