"""The large-kernel convolution: a depthwise convolution with a large kernel, then a 1x1 convolution."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.depthwise_separable import pointwise
from convbench.convs.from_scratch import fft as fft_conv2d
from convbench.convs.functional import Geometry


def fft(x: Tensor, kernel: Tensor, mix: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Compute as `pointwise`, with the depthwise part by FFT, whose time does not depend on the kernel size."""
    return F.conv2d(
        fft_conv2d(x, kernel, None, geometry.with_groups(kernel.shape[0])), mix, bias, groups=geometry.groups
    )


class LargeKernelConv2d(Conv2dBase):
    """A depthwise convolution with a large kernel, then weighted sums of the results over channels.

        y[n, o] = bias[o] + sum_i mix[o, i] (kernel[i] * x[n, i]),   kernel[i] of size L x L, L = `large_kernel`

    It has the receptive field of several small layers, with C_in * L * L + C_in * C_out weights. The depthwise part
    comes first, as in ConvNeXt, so that there is one large kernel for each input channel and not for each output
    channel. The padding grows with the kernel, so that the output keeps the size that the original kernel gives. The
    attribute `kernel_size` is the size of the large kernel. RepLKNet trains a small kernel in parallel to the large
    one. This class does not.

    The following layers are refused: 1x1 layers, which only mix channels; kernels larger than L; kernels of even size
    if L is odd, and the reverse, because the two kernels have different centres; and grouped layers.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation:
    `depthwise_weight` (C_in, 1, L, L), `pointwise_weight` (C_out, C_in, 1, 1), `bias` (C_out,). Each part is
    initialised as the `nn.Conv2d` of its shape.

    Sources: Liu et al., "A ConvNet for the 2020s" (ConvNeXt), CVPR 2022, arXiv 2201.03545 (7 x 7); Ding et al.,
    "Scaling Up Your Kernels to 31x31" (RepLKNet), CVPR 2022, arXiv 2203.06717.

    Raises:
        UnsupportedLayerError: The layer is refused for one of the reasons above.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "large_kernel"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"pointwise": pointwise, "fft": fft}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("pointwise_weight",)
    reference_implementation: ClassVar[str] = "pointwise"

    def __init__(self, *conv2d: Any, implementation: str = "pointwise", large_kernel: int = 7, **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self._enlarge(self._checked_int("large_kernel", large_kernel, key=" (conv.large_kernel)"))
        self.depthwise_weight = self._parameter(self.in_channels, 1, *self.kernel_size)
        self.pointwise_weight = self._parameter(self.out_channels, self.in_channels, 1, 1)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise both parts as `nn.Conv2d` in this order; the bias belongs to the 1x1 part."""
        initialise_like_conv2d(self.depthwise_weight, None)
        initialise_like_conv2d(self.pointwise_weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.depthwise_weight, self.pointwise_weight, self.bias, self._geometry)

    def _enlarge(self, large: int) -> None:
        """Replace the kernel size of the layer by the large one, and increase the padding accordingly."""
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        if any(size > large or (large - size) % 2 for size in self.kernel_size):
            parity = "odd" if large % 2 else "even"
            self._refuse(f"needs {parity} kernel sizes of at most {large} (conv.large_kernel)")
        extra = tuple((large - k) // 2 * d for k, d in zip(self.kernel_size, self.dilation, strict=True))
        if self.padding != "same":
            padding = (0, 0) if isinstance(self.padding, str) else self.padding
            self.padding = (padding[0] + extra[0], padding[1] + extra[1])
        self.kernel_size = (large, large)
        self._resolve_padding()
