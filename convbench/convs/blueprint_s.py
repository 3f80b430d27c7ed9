"""The blueprint separable convolution in its subspace variant: a low-rank 1x1 convolution, then a depthwise one."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.errors import UserError

# All implementations take x (N, C_in, H, W), squeeze (M, C_in, 1, 1), expand (C_out, M, 1, 1),
# kernel (C_out, 1, K_h, K_w), bias (C_out,) or None, and the geometry of the depthwise part with one group. They return
# (N, C_out, H_out, W_out).


def factored(
    x: Tensor, squeeze: Tensor, expand: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Apply two 1x1 convolutions, then the depthwise convolution: the published form."""
    sums = F.conv2d(F.conv2d(x, squeeze), expand)
    return F.conv2d(sums, kernel, bias, *geometry.with_groups(kernel.shape[0]))


def merged(
    x: Tensor, squeeze: Tensor, expand: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Compute as `factored`, with both 1x1 weights multiplied into one matrix of low rank."""
    sums = F.conv2d(x, _low_rank_weight(squeeze, expand))
    return F.conv2d(sums, kernel, bias, *geometry.with_groups(kernel.shape[0]))


def folded(
    x: Tensor, squeeze: Tensor, expand: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Compute as `factored`, with all three factors folded into one dense kernel."""
    return F.conv2d(x, _low_rank_weight(squeeze, expand) * kernel, bias, *geometry)


def _low_rank_weight(squeeze: Tensor, expand: Tensor) -> Tensor:
    """Multiply both 1x1 weights into one of shape (C_out, C_in, 1, 1)."""
    return (expand.flatten(1) @ squeeze.flatten(1))[:, :, None, None]


class BlueprintSConv2d(Conv2dBase):
    """One K x K kernel for each output channel, applied to a weighted sum of the inputs with weights of low rank.

        y[n, o] = bias[o] + kernel[o] * sum_m expand[o, m] sum_i squeeze[m, i] x[n, i]

    It is `weighted_sum` (BSConv-U) with the matrix of the weighted sums factored over M = min(C_in, max(least_hidden,
    ceil(ratio * C_in))) hidden channels. It has C_in * M + M * C_out + C_out * K_h * K_w weights.

    A regularisation term keeps the rows of `squeeze` close to orthonormal, so that the hidden channels are not
    redundant. `auxiliary_loss` returns `orthonormality` times the Frobenius norm of squeeze squeeze^T - 1, and the
    training step adds it to the loss. The published factor is 0.1; 0 disables the term. The published blocks have
    batch norms between the factors. This class has none, since it replaces one linear layer. Grouped layers are
    refused, because all channels share one subspace.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation:
    `squeeze_weight` (M, C_in, 1, 1), `expand_weight` (C_out, M, 1, 1), `depthwise_weight` (C_out, 1, K_h, K_w) and
    `bias` (C_out,). Each part is initialised as the `nn.Conv2d` of its shape.

    Source: Haase and Amthor, "Rethinking Depthwise Separable Convolutions", CVPR 2020, arXiv 2003.13549 (BSConv-S).

    Raises:
        UnsupportedLayerError: The layer is grouped.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "blueprint_s"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "factored": factored,
        "merged": merged,
        "folded": folded,
    }
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("depthwise_weight",)
    reference_implementation: ClassVar[str] = "factored"

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "factored",
        ratio: float = 0.25,
        least_hidden: int = 4,
        orthonormality: float = 0.1,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if not 0 < ratio <= 1:
            raise UserError(f"blueprint_s got ratio {ratio!r}; choose a number above 0 and at most 1 (conv.ratio)")
        if not orthonormality >= 0:
            raise UserError(
                f"blueprint_s got orthonormality {orthonormality!r}; choose a number of at least 0 "
                "(conv.orthonormality)"
            )
        least = self._checked_int("least_hidden", least_hidden, key=" (conv.least_hidden)")
        self.hidden = min(self.in_channels, max(least, math.ceil(ratio * self.in_channels)))
        self.orthonormality = orthonormality
        self.squeeze_weight = self._parameter(self.hidden, self.in_channels, 1, 1)
        self.expand_weight = self._parameter(self.out_channels, self.hidden, 1, 1)
        self.depthwise_weight = self._parameter(self.out_channels, 1, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the three parts as `nn.Conv2d` in this order; the bias belongs to the depthwise part."""
        initialise_like_conv2d(self.squeeze_weight, None)
        initialise_like_conv2d(self.expand_weight, None)
        initialise_like_conv2d(self.depthwise_weight, self.bias)

    def auxiliary_loss(self) -> Tensor | None:
        """Return the weighted distance of the rows of `squeeze_weight` from orthonormality, 0-d; None for weight 0."""
        if not self.orthonormality:
            return None
        rows = self.squeeze_weight.flatten(1).float()
        return self.orthonormality * (rows @ rows.mT - torch.eye(len(rows), device=rows.device)).norm()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        weights = (self.squeeze_weight, self.expand_weight, self.depthwise_weight)
        return self._function(self._pad(x), *weights, self.bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the hidden channels."""
        return f"{super().extra_repr()}, hidden={self.hidden}"
