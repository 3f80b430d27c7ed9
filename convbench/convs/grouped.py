"""The grouped convolution: groups of channels that are convolved separately."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d, library
from convbench.convs.functional import Geometry

# All implementations take x (N, C_in, H, W), weight (C_out, C_in/G, K_h, K_w), bias (C_out,) or None, and the geometry.
# They return (N, C_out, H_out, W_out).


def split(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve each group of channels separately and concatenate the results: the definition."""
    groups, geometry = geometry.groups, geometry.with_groups(1)
    if weight.shape[2:] == (1, 1) and geometry.padding == (0, 0):
        # Remove the pixels that the stride skips before the convolution: on a CPU, PyTorch 2.15 corrupts memory in a
        # strided 1x1 convolution of channels_last images with fewer than eight channels.
        (sh, sw), geometry = geometry.stride, geometry._replace(stride=(1, 1))
        x = x[..., ::sh, ::sw]
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
    return torch.cat([F.conv2d(group, kernel, b, *geometry) for group, kernel, b in parts], 1)


def dense(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve once, with a dense kernel that is zero between channels of different groups."""
    return F.conv2d(x, block_diagonal(weight, geometry.groups), bias, *geometry.with_groups(1))


def block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Convert a grouped kernel (C_out, C_in/groups, K_h, K_w) to the equivalent dense one (C_out, C_in, K_h, K_w)."""
    blocks = torch.eye(groups, device=weight.device, dtype=weight.dtype)[:, None, :, None, None, None]
    return (weight.unflatten(0, (groups, -1))[:, :, None] * blocks).flatten(2, 3).flatten(0, 1)


class GroupedConv2d(Conv2dBase):
    """A convolution in `cardinality` groups: the output channels of a group depend only on its input channels.

        y[n, o] = bias[o] + sum_{i in the group of o} weight[o, i] * x[n, i]

    It has `cardinality` times fewer weights and multiplications than the standard convolution. A layer that already has
    groups is split further, into `cardinality` times as many groups.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters: `weight` (C_out, C_in/groups, K_h, K_w) and
    `bias` (C_out,), as in an `nn.Conv2d` with this total number of groups.

    Sources: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
    NeurIPS 2012, which split a network over two GPUs; Xie et al., "Aggregated Residual Transformations for Deep Neural
    Networks" (ResNeXt), CVPR 2017, arXiv 1611.05431, which calls the number of groups cardinality.

    Raises:
        UnsupportedLayerError: The number of groups does not divide the numbers of channels.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "grouped"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "library": library,
        "split": split,
        "dense": dense,
    }
    reference_implementation: ClassVar[str] = "library"

    def __init__(self, *conv2d: Any, implementation: str = "library", cardinality: int = 4, **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.groups *= self._checked_int("cardinality", cardinality, key=" (conv.cardinality)")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            self._refuse(f"cannot split its channels into {self.groups} groups (conv.cardinality)")
        self._resolve_padding()
        self.weight = self._parameter(self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters as an `nn.Conv2d` with this number of groups does."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.weight, self.bias, self._geometry)
