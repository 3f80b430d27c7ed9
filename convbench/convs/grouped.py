"""The grouped convolution: blocks of channels that are convolved apart."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d, library
from convbench.convs.functional import Geometry

# Every implementation takes x (N, C_in, H, W), weight (C_out, C_in/G, K_h, K_w), bias (C_out,) or none, and gives
# (N, C_out, H_out, W_out).


def split(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve each block of channels by itself, and put the results side by side: the definition."""
    groups, geometry = geometry.groups, geometry.with_groups(1)
    if weight.shape[2:] == (1, 1) and geometry.padding == (0, 0):
        # The pixels that the stride skips are removed first: on a CPU, PyTorch 2.15 corrupts memory in a strided 1x1
        # convolution of channels_last images with fewer than eight channels.
        (down, right), geometry = geometry.stride, geometry._replace(stride=(1, 1))
        x = x[..., ::down, ::right]
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), biases, strict=True)
    return torch.cat([F.conv2d(block, kernel, b, *geometry) for block, kernel, b in parts], 1)


def dense(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Write the blocks into one dense kernel, zero everywhere else, and convolve once."""
    return F.conv2d(x, block_diagonal(weight, geometry.groups), bias, *geometry.with_groups(1))


def block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Spread (C_out, C_in/groups, K_h, K_w) to the dense kernel (C_out, C_in, K_h, K_w) that computes the same."""
    blocks = torch.eye(groups, device=weight.device, dtype=weight.dtype)[:, None, :, None, None, None]
    return (weight.unflatten(0, (groups, -1))[:, :, None] * blocks).flatten(2, 3).flatten(0, 1)


class GroupedConv2d(Conv2dBase):
    """A convolution in `cardinality` blocks: output channels of a block see only its input channels.

        y[n, o] = bias[o] + sum_{i in the block of o} weight[o, i] * x[n, i]

    It has `cardinality` times fewer weights and multiplications than the standard convolution. A layer that has groups
    already is split further, into `cardinality` times as many.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters: `weight` (C_out, C_in/groups, K_h, K_w) and
    `bias` (C_out,), those of an `nn.Conv2d` with so many groups.

    Sources: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
    NeurIPS 2012, which split a network over two GPUs; Xie et al., "Aggregated Residual Transformations for Deep Neural
    Networks" (ResNeXt), CVPR 2017, arXiv 1611.05431, which calls the number of groups cardinality.

    Raises:
        UnsupportedLayerError: The channels cannot be split into so many groups.
        UserError: An argument is out of range, or does not go together with another one.
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
        self.groups *= self._whole("cardinality", cardinality, key=" (conv.cardinality)")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            self._refuse(f"cannot split its channels into {self.groups} groups (conv.cardinality)")
        self._resolve_padding()
        self.weight = self._parameter(self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the values that `nn.Conv2d` with so many groups would draw."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.weight, self.bias, self._geometry)
