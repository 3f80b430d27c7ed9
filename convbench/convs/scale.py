"""How large a convolution starts that takes another one's place, in a network in which nothing evens sizes out."""

import copy

import torch
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
_IMAGES = 8  # of noise


def has_norms(network: nn.Module) -> bool:
    """Whether any layer of a network brings what it gets to a size of its own."""
    return any(isinstance(module, _NORMS) for module in network.modules())


@torch.no_grad()
def match_output_scale(new: Conv2dBase, old: nn.Conv2d) -> None:
    """Scale the outputs of a convolution, at its start, to the size of those of the one that it replaces.

    Without norms the size of the outputs at the start decides whether a network learns at all (He et al., arXiv
    1502.01852), and a convolution of two parts makes them several times smaller than one of the same layer does. The
    size is the root mean square over rectified noise, as from a layer with a ReLU before this one. The bias, where both
    have one, starts with the replaced one's values.

    Draws from PyTorch's generator on the CPU; the result depends neither on device nor precision.
    """
    biases = _bias(new), _bias(old)
    if biases[0] is not None and biases[1] is not None:
        biases[0].copy_(biases[1])  # every row of it, where there is one for each of several kernels
    parameters = [value for name, value in new.named_parameters() if name.partition(".")[0] in new.outputs_scale_with]
    x = torch.randn(_IMAGES, old.in_channels, *_size(old), dtype=torch.float64).relu()
    wanted, got = _root_mean_square(old, x), _root_mean_square(new, x)
    if wanted > 0 and got > 0:
        factor = float(f"{wanted / got:.3g}")  # so that rounding, which differs between machines, leaves no trace
        for parameter in parameters:
            parameter.mul_(factor)


def _bias(conv: nn.Module) -> Tensor | None:
    return dict(conv.named_parameters()).get("bias")


def _size(conv: nn.Conv2d) -> tuple[int, int]:
    """Height and width of images that give five outputs each way, more with padding."""
    high, wide = (d * (k - 1) + 1 + 4 * s for d, k, s in zip(conv.dilation, conv.kernel_size, conv.stride, strict=True))
    return high, wide


def _root_mean_square(conv: nn.Module, x: Tensor) -> float:
    """The size of the outputs without the bias."""
    twin = copy.deepcopy(conv).to("cpu", torch.float64)
    bias = _bias(twin)
    if bias is not None:
        nn.init.zeros_(bias)
    return float(twin(x).square().mean().sqrt())
