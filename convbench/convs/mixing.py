"""Convolutions with a kernel for each image, which is a weighted sum of the kernels of several experts.

This module holds the layout of the experts, the mixing of their kernels, and the implementations. A subclass of
`MixedConv2d` only defines the routing weights, which are the weights of the experts for each image.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# Shapes below: N images, K experts, G groups, C_in and C_out channels, T = K_h * K_w taps, L output pixels. All
# implementations take
#   x (N, C_in, H, W), routing_weights (N, K), or (N, K, T) with separate routing weights for each tap,
#   weight (K, C_out, C_in/G, K_h, K_w), bias (N, C_out), which is mixed already, or None, and the geometry.
# They return (N, C_out, H_out, W_out). They do not call x.view, which would fail if x is channels_last.


def grouped(x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Mix a kernel for each image, then convolve the batch as one image with N groups: the published form."""
    images = x.shape[0]
    kernels = _mix_kernels(routing_weights, weight).flatten(0, 1)  # (N * C_out, C_in/G, K_h, K_w)
    merged = x.reshape(1, -1, *x.shape[2:])  # (1, N * C_in, H, W)
    merged_geometry = geometry.with_groups(images * geometry.groups)
    y = F.conv2d(merged, kernels, None if bias is None else bias.flatten(), *merged_geometry)
    return y.reshape(images, -1, *y.shape[2:])


def mix_after(x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve every image with all experts, then mix the outputs: K times the operations in one convolution."""
    routing_weights, weight = _taps_as_experts(routing_weights, weight)
    experts = weight.shape[0]
    # F.conv2d needs the output channels of each group to be adjacent: (G, K, C_out/G), not (K, G, C_out/G).
    kernels = weight.unflatten(1, (geometry.groups, -1)).transpose(0, 1).flatten(0, 2)
    y = F.conv2d(x, kernels, None, *geometry)
    y = y.unflatten(1, (geometry.groups, experts, -1))
    return _add_bias(torch.einsum("nk,ngkohw->ngohw", routing_weights, y).flatten(1, 2), bias)


def scaled_inputs(
    x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Scale a copy of the input by each routing weight, and convolve the K * C_in channels, which sums over experts."""
    routing_weights, weight = _taps_as_experts(routing_weights, weight)
    scales = routing_weights.to(x.dtype)[:, None, None, None, :, None]
    # (N, H, W, G, K, C_in/G): x is usually channels_last, and in this order the copies are contiguous in memory.
    copies = x.permute(0, 2, 3, 1).unflatten(3, (geometry.groups, 1, -1)) * scales
    kernels = weight.permute(1, 0, 2, 3, 4).flatten(1, 2)  # (C_out, K * C_in/G, K_h, K_w)
    y = F.conv2d(copies.flatten(3).permute(0, 3, 1, 2), kernels, None, *geometry)
    return _add_bias(y, bias)


def unfold(x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Mix a kernel for each image, and multiply it with the unfolded patches of the image, batched over images."""
    images, kernel_size, groups = x.shape[0], weight.shape[3:], geometry.groups
    columns = F.unfold(x, kernel_size, geometry.dilation, geometry.padding, geometry.stride)  # (N, C_in * K_h * K_w, L)
    kernels = _mix_kernels(routing_weights, weight).flatten(2).unflatten(1, (groups, -1)).flatten(0, 1)
    y = kernels @ columns.unflatten(1, (groups, -1)).flatten(0, 1)  # (N * G, C_out/G, L)
    size = geometry.output_size(x.shape[2:], kernel_size)
    return _add_bias(y.reshape(images, -1, *size), bias)


def _mix_kernels(routing_weights: Tensor, weight: Tensor) -> Tensor:
    """Mix the kernels of the experts for each image: (N, C_out, C_in/G, K_h, K_w)."""
    if routing_weights.dim() == 2:
        return (routing_weights @ weight.flatten(1)).unflatten(1, weight.shape[1:])
    return torch.einsum("nkt,koct->noct", routing_weights, weight.flatten(3)).unflatten(3, weight.shape[3:])


def _taps_as_experts(routing_weights: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Convert routing weights (N, K, T) to (N, K * T), one for each tap of each expert; leave (N, K) as they are.

    Each tap becomes an expert of its own, whose kernel is zero at all other taps.
    """
    if routing_weights.dim() == 2:
        return routing_weights, weight
    height, width = weight.shape[3:]
    taps = torch.eye(height * width, device=weight.device, dtype=weight.dtype).view(-1, 1, 1, height, width)
    return routing_weights.flatten(1), (weight[:, None] * taps).flatten(0, 1)


def _add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias[:, :, None, None]


class MixedConv2d(Conv2dBase):
    """A convolution that mixes a kernel and a bias for each image from those of `num_experts` experts.

        W(x) = sum_k alpha_k(x) W_k,   b(x) = sum_k alpha_k(x) b_k

    where alpha_k is the routing weight of expert k.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w) and `bias` (K, C_out). Each expert is initialised as an `nn.Conv2d` of its
    shape.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
    """

    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "grouped": grouped,
        "mix_after": mix_after,
        "scaled_inputs": scaled_inputs,
        "unfold": unfold,
    }
    reference_implementation: ClassVar[str] = "grouped"

    def __init__(self, *conv2d: Any, num_experts: int, implementation: str, **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.num_experts = self._checked_int("num_experts", num_experts, key=" (conv.num_experts)")
        # Three dimensions, because Module.to(memory_format=torch.channels_last) fails for parameters with five.
        fan_in = self.in_channels // self.groups * self.kernel_size[0] * self.kernel_size[1]
        self.weight = self._parameter(num_experts, self.out_channels, fan_in)
        self.bias = self._bias(num_experts, self.out_channels)

    @abstractmethod
    def routing_weights(self, x: Tensor) -> Tensor:
        """Return the routing weights (N, K) of images (N, C_in, H, W)."""

    def reset_parameters(self) -> None:
        """Initialise each expert as an `nn.Conv2d` of its shape."""
        for expert in range(self.num_experts):
            initialise_like_conv2d(self.weight[expert], None if self.bias is None else self.bias[expert])

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        routing_weights = self.routing_weights(x)
        bias = None if self.bias is None else routing_weights @ self.bias
        return self._function(self._pad(x), routing_weights, self._kernels(), bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the number of experts."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"

    def _single_expert_weights(self, x: Tensor) -> Tensor:
        """Return the routing weight of a single expert, which is 1 for each image of x (N, ...): (N, 1)."""
        return self.weight.new_ones(len(x), 1)

    def _kernels(self) -> Tensor:
        """Return a view of the kernels of the experts, (K, C_out, C_in/groups, K_h, K_w)."""
        return self.weight.unflatten(2, (-1, *self.kernel_size))
