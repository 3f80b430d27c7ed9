"""The scale of the initial outputs of a replacement convolution, for networks without normalisation layers."""

import copy

import torch
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
_NOISE_IMAGES = 8


def has_norms(network: nn.Module) -> bool:
    """Return whether a network has any normalisation layer."""
    return any(isinstance(module, _NORMS) for module in network.modules())


@torch.no_grad()
def match_output_scale(new: Conv2dBase, old: nn.Conv2d) -> None:
    """Rescale the initial weights of a convolution so that its outputs have the scale of those of the replaced one.

    In a network without norms, the scale of the initial outputs decides whether the network learns at all (He et al.,
    arXiv 1502.01852). The outputs of a convolution in two parts are several times smaller than those of a standard one.
    The scale is the root mean square of the outputs without bias, for rectified noise as from a preceding layer with a
    ReLU. If both convolutions have a bias, the new one takes the values of the old one.

    The noise is drawn from PyTorch's default generator on the CPU. The result does not depend on device or precision.

    Args:
        new: The replacement. Changed in place.
        old: The replaced convolution.
    """
    new_bias, old_bias = _bias(new), _bias(old)
    if new_bias is not None and old_bias is not None:
        new_bias.copy_(old_bias)  # broadcasts to the biases of all experts, (K, C_out)
    parameters = [value for name, value in new.named_parameters() if name.partition(".")[0] in new.outputs_scale_with]
    x = torch.randn(_NOISE_IMAGES, old.in_channels, *_noise_size(old), dtype=torch.float64).relu()
    target, actual = _output_scale(old, x), _output_scale(new, x)
    if target > 0 and actual > 0:
        factor = float(f"{target / actual:.3g}")  # rounded, so that rounding errors of the hardware have no effect
        for parameter in parameters:
            parameter.mul_(factor)


def _bias(conv: nn.Module) -> Tensor | None:
    return dict(conv.named_parameters()).get("bias")


def _noise_size(conv: nn.Conv2d) -> tuple[int, int]:
    """Return the (height, width) of images with 5 x 5 outputs without padding, and more with padding."""
    height, width = (
        d * (k - 1) + 1 + 4 * s for d, k, s in zip(conv.dilation, conv.kernel_size, conv.stride, strict=True)
    )
    return height, width


def _output_scale(conv: nn.Module, x: Tensor) -> float:
    """Return the root mean square of the outputs without the bias, computed in float64 on the CPU."""
    twin = copy.deepcopy(conv).to("cpu", torch.float64)
    bias = _bias(twin)
    if bias is not None:
        nn.init.zeros_(bias)
    return float(twin(x).square().mean().sqrt())
