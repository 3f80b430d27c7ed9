"""The weight-standardised convolution: kernels of mean 0 and variance 1."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.errors import UserError

# All implementations take x (N, C_in, H, W), weight (C_out, C_in/G, K_h, K_w), bias (C_out,) or None, epsilon, a factor
# for the kernels, and the geometry. They return (N, C_out, H_out, W_out).


def formula(
    x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float, factor: float, geometry: Geometry
) -> Tensor:
    """Standardise every kernel by the formula, then convolve."""
    flat = _at_least_float32(weight).flatten(1)
    variance, mean = torch.var_mean(flat, dim=1, correction=0, keepdim=True)
    kernels = (flat - mean) * torch.rsqrt(variance + epsilon) * factor
    return F.conv2d(x, kernels.view(weight.shape).to(weight.dtype), bias, *geometry)


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float, factor: float, geometry: Geometry
) -> Tensor:
    """Standardise all kernels by one fused batch norm whose channels are the output channels, then convolve."""
    flat = _at_least_float32(weight).flatten(1)[None]
    kernels = F.batch_norm(flat, None, None, flat.new_full((flat.shape[1],), factor), None, True, eps=epsilon)
    return F.conv2d(x, kernels.view(weight.shape).to(weight.dtype), bias, *geometry)


def _at_least_float32(weight: Tensor) -> Tensor:
    """Convert half precision to float32, because the difference from the mean loses significant digits."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


class WeightStandardisedConv2d(Conv2dBase):
    """A standard convolution with the kernels (weight[o] - mean of weight[o]) / sqrt(variance of weight[o] + epsilon).

    Mean and variance are taken over the C_in/groups * K_h * K_w weights of one output channel. The mean and the norm of
    a kernel are therefore not learned, which makes the loss smoother. There are no additional weights, and the
    additional time is negligible compared with the convolution.

    With `scaled`, the default, the kernels are also divided by the square root of their number of weights, so that the
    outputs have the variance of the inputs, as in the later paper on networks without norms. The first paper leaves the
    scale to the norm after the convolution (`conv.scaled=false`), and its outputs are larger by this factor. With a
    batch norm after the convolution, both give the same result.

    `epsilon` avoids a division by zero if all weights of a kernel are equal. It has to be small compared with the
    variance of a kernel, which decreases with the size of the kernel: `nn.Conv2d` initialises 3x3 kernels over 512
    channels with a variance of 7e-5. A layer with one or two weights for each output channel, such as a depthwise 1x1
    convolution, is refused: two weights always become 1 and -1, and one weight becomes 0.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation and those of
    `nn.Conv2d`: `weight` (C_out, C_in/groups, K_h, K_w) and `bias` (C_out,).

    Sources: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019,
    arXiv 1903.10520; Brock, De and Smith, "Characterizing Signal Propagation to Close the Performance Gap in
    Unnormalized ResNets", ICLR 2021, arXiv 2101.08692 (scaled).

    Raises:
        UnsupportedLayerError: A kernel has fewer than three weights.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "weight_standardised"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"formula": formula, "batch_norm": batch_norm}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ()
    reference_implementation: ClassVar[str] = "formula"

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "formula",
        scaled: bool = True,
        epsilon: float = 1e-8,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        if not epsilon > 0:
            raise UserError(f"weight_standardised got epsilon {epsilon!r}; choose a number above 0 (conv.epsilon)")
        self.weight = self._parameter(self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        kernel_weights = self.weight[0].numel()
        if kernel_weights < 3:
            self._refuse("needs kernels with at least 3 weights")
        self.epsilon = epsilon
        self.factor = kernel_weights**-0.5 if scaled else 1.0
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters as `nn.Conv2d` does."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.weight, self.bias, self.epsilon, self.factor, self._geometry)
