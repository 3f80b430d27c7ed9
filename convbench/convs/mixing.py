"""Per-image convolutions: every image mixes a kernel of its own from those of a few experts.

What they share: the layout of the experts, how kernels are mixed, and the ways to compute the result. A conv type of
this kind says in `routing_weights` how much each image takes of each expert, and nothing else.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# Shapes below: N images, K experts, G groups, C_in and C_out channels, T = K_h * K_w taps, L output pixels. Every
# implementation takes
#   x (N, C_in, H, W), routing_weights (N, K), or (N, K, T) where each tap is mixed apart,
#   weight (K, C_out, C_in/G, K_h, K_w), bias (N, C_out), mixed already, or none,
# and gives (N, C_out, H_out, W_out). None of them views x: it may be channels_last.


def grouped(x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Mix the kernels of each image, then convolve all images at once with one group for each: the published form."""
    images = x.shape[0]
    kernels = _mixed(routing_weights, weight).flatten(0, 1)  # (N * C_out, C_in/G, K_h, K_w)
    row = x.reshape(1, -1, *x.shape[2:])
    of_images = geometry.with_groups(images * geometry.groups)
    y = F.conv2d(row, kernels, None if bias is None else bias.flatten(), *of_images)
    return y.reshape(images, -1, *y.shape[2:])


def mix_after(x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve every image with all the experts, then mix their outputs: K times the work, one plain convolution."""
    routing_weights, weight = _taps_as_experts(routing_weights, weight)
    experts = weight.shape[0]
    # The convolution wants the outputs of a group together: (G, K, C_out/G), not (K, G, C_out/G).
    kernels = weight.unflatten(1, (geometry.groups, -1)).transpose(0, 1).flatten(0, 2)
    y = F.conv2d(x, kernels, None, *geometry)
    y = y.unflatten(1, (geometry.groups, experts, -1))
    return _add_bias(torch.einsum("nk,ngkohw->ngohw", routing_weights, y).flatten(1, 2), bias)


def scaled_inputs(
    x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Scale a copy of the image for each expert, and convolve all K * C_in channels once, which also adds up."""
    routing_weights, weight = _taps_as_experts(routing_weights, weight)
    scales = routing_weights.to(x.dtype)[:, None, None, None, :, None]
    # (N, H, W, G, K, C_in/G): with channels last, as x mostly lies, a copy is written in one go.
    copies = x.permute(0, 2, 3, 1).unflatten(3, (geometry.groups, 1, -1)) * scales
    kernels = weight.permute(1, 0, 2, 3, 4).flatten(1, 2)  # (C_out, K * C_in/G, K_h, K_w)
    y = F.conv2d(copies.flatten(3).permute(0, 3, 1, 2), kernels, None, *geometry)
    return _add_bias(y, bias)


def unfold(x: Tensor, routing_weights: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Mix the kernels of each image, unfold its patches into columns, and multiply the two, batched over images."""
    images, kernel_size, groups = x.shape[0], weight.shape[3:], geometry.groups
    columns = F.unfold(x, kernel_size, geometry.dilation, geometry.padding, geometry.stride)  # (N, C_in * K_h * K_w, L)
    kernels = _mixed(routing_weights, weight).flatten(2).unflatten(1, (groups, -1)).flatten(0, 1)
    y = kernels @ columns.unflatten(1, (groups, -1)).flatten(0, 1)  # (N * G, C_out/G, L)
    size = geometry.output_size(x.shape[2:], kernel_size)
    return _add_bias(y.reshape(images, -1, *size), bias)


def _mixed(routing_weights: Tensor, weight: Tensor) -> Tensor:
    """Mix the experts' kernels for each image: (N, C_out, C_in/G, K_h, K_w)."""
    if routing_weights.dim() == 2:
        return (routing_weights @ weight.flatten(1)).unflatten(1, weight.shape[1:])
    return torch.einsum("nkt,koct->noct", routing_weights, weight.flatten(3)).unflatten(3, weight.shape[3:])


def _taps_as_experts(routing_weights: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Where each tap is mixed apart, take a tap of an expert for an expert that is zero elsewhere: K * T of them."""
    if routing_weights.dim() == 2:
        return routing_weights, weight
    high, wide = weight.shape[3:]
    taps = torch.eye(high * wide, device=weight.device, dtype=weight.dtype).view(-1, 1, 1, high, wide)
    return routing_weights.flatten(1), (weight[:, None] * taps).flatten(0, 1)


def _add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias[:, :, None, None]


class MixedConv2d(Conv2dBase):
    """A convolution whose kernel every image mixes from `num_experts` kernels and biases.

        W(x) = sum_k share_k(x) W_k,   b(x) = sum_k share_k(x) b_k

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w) and `bias` (K, C_out), each expert drawn as an `nn.Conv2d` of its shape would
    draw it.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
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
        self.num_experts = self._whole("num_experts", num_experts, key=" (conv.num_experts)")
        # Three axes, because Module.to(memory_format=torch.channels_last) refuses five.
        fan_in = self.in_channels // self.groups * self.kernel_size[0] * self.kernel_size[1]
        self.weight = self._parameter(num_experts, self.out_channels, fan_in)
        self.bias = self._bias(num_experts, self.out_channels)

    @abstractmethod
    def routing_weights(self, x: Tensor) -> Tensor:
        """Say how much each image (N, C_in, H, W) takes of each expert: (N, K)."""

    def reset_parameters(self) -> None:
        """Draw every expert anew."""
        for expert in range(self.num_experts):
            initialise_like_conv2d(self.weight[expert], None if self.bias is None else self.bias[expert])

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        routing_weights = self.routing_weights(x)
        bias = None if self.bias is None else routing_weights @ self.bias
        return self._function(self._pad(x), routing_weights, self._kernels(), bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the experts."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"

    def _share_of_one(self, x: Tensor) -> Tensor:
        """Give the share of the only expert, 1 for each image of (N, ...): (N, 1)."""
        return self.weight.new_ones(len(x), 1)

    def _kernels(self) -> Tensor:
        """View the experts' kernels as (K, C_out, C_in/groups, K_h, K_w)."""
        return self.weight.unflatten(2, (-1, *self.kernel_size))
