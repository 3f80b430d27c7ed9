"""The pyramidal convolution: several kernel sizes beside each other, the larger ones the thinner."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.convs.grouped import block_diagonal
from convbench.errors import UserError

# Every implementation takes x (N, C_in, H, W), weights (C_l, C_in/G_l, K_h + 2l, K_w + 2l) of the levels l, their
# groups G_l, bias (C_out,) or none, the geometry for the largest kernel, and gives
# (N, C_out, H_out, W_out).


def levels(
    x: Tensor, weights: Sequence[Tensor], groups: Sequence[int], bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Convolve once for each level, and put the results side by side: the published form."""
    parts = []
    for level, (weight, number) in enumerate(zip(weights, groups, strict=True)):
        less = len(weights) - 1 - level  # a smaller kernel does not reach as far beyond the border
        high, wide = (pad - less * step for pad, step in zip(geometry.padding, geometry.dilation, strict=True))
        seen = F.pad(x, (min(wide, 0), min(wide, 0), min(high, 0), min(high, 0)))  # what was padded before is cut off
        of_level = geometry._replace(padding=(max(high, 0), max(wide, 0)), groups=number)
        parts.append(F.conv2d(seen, weight, None, *of_level))
    y = torch.cat(parts, 1)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def folded(
    x: Tensor, weights: Sequence[Tensor], groups: Sequence[int], bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Write all levels into one dense kernel of the largest size, zero where a level does not reach."""
    kernels = [
        F.pad(block_diagonal(weight, number), [len(weights) - 1 - level] * 4)
        for level, (weight, number) in enumerate(zip(weights, groups, strict=True))
    ]
    return F.conv2d(x, torch.cat(kernels), bias, *geometry)


class PyramidalConv2d(Conv2dBase):
    """Kernels of several sizes beside each other: K x K for one part of the outputs, K + 2 for the next, and so on.

        y[n, o of level l] = bias[o] + sum_{i in the block of o} weight_l[o, i] * x[n, i],   weight_l of size K + 2l

    The outputs are split evenly over the levels (the first ones get what is left over); the larger kernels see fewer
    channels each, as level l is split into `level_groups[l]` groups, so that all levels cost about the same. Padding
    grows with the kernel, so that all levels give the layer's output size.

    It is convbench's multi-scale convolution. Octave convolution, the better known one, keeps two tensors of different
    resolution between layers and so stands in for a network's layers only together; this one stands in for any single
    layer with a spatial kernel. Refused are 1x1 layers, grouped layers, and channels that cannot be split so.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weights.l`
    (C_l, C_in/level_groups[l], K_h + 2l, K_w + 2l) for each level l, and `bias` (C_out,). Each level starts as the
    `nn.Conv2d` of its shape would.

    Source: Duta, Liu, Zhu and Shao, "Pyramidal Convolution: Rethinking Convolutional Neural Networks for Visual
    Recognition", 2020, arXiv 2006.11538 (levels with 1, 4, 8 and 16 groups).

    Raises:
        UnsupportedLayerError: See above.
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "pyramidal"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"levels": levels, "folded": folded}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("weights",)
    reference_implementation: ClassVar[str] = "levels"

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "levels",
        level_groups: Sequence[int] = (1, 4),
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.level_groups = tuple(level_groups)
        if not self.level_groups:
            raise UserError("pyramidal got no level_groups; choose one number for each level (conv.level_groups)")
        for number in self.level_groups:
            self._whole("level_groups", number, key=" (conv.level_groups)")
        outputs = self._outputs()
        self.weights = nn.ParameterList(
            self._parameter(count, self.in_channels // number, *(size + 2 * level for size in self.kernel_size))
            for level, (count, number) in enumerate(zip(outputs, self.level_groups, strict=True))
        )
        self._enlarge(len(outputs) - 1)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw what an `nn.Conv2d` of each level's shape would draw, and the bias as the first level's."""
        for level, weight in enumerate(self.weights):
            initialise_like_conv2d(weight, None if level else self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), list(self.weights), self.level_groups, self.bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the groups of the levels."""
        return f"{super().extra_repr()}, level_groups={self.level_groups}"

    def _outputs(self) -> list[int]:
        """Say how many outputs each level makes."""
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        levels = len(self.level_groups)
        each, left = divmod(self.out_channels, levels)
        outputs = [each + (level < left) for level in range(levels)]
        if any(not out or out % g or self.in_channels % g for out, g in zip(outputs, self.level_groups, strict=True)):
            self._refuse(f"cannot split its channels into groups of {list(self.level_groups)} (conv.level_groups)")
        return outputs

    def _enlarge(self, steps: int) -> None:
        """Take the largest kernel's size for the layer's, and pad so much more."""
        if self.padding != "same":
            padding = (0, 0) if isinstance(self.padding, str) else self.padding
            self.padding = (padding[0] + steps * self.dilation[0], padding[1] + steps * self.dilation[1])
        self.kernel_size = (self.kernel_size[0] + 2 * steps, self.kernel_size[1] + 2 * steps)
        self._resolve_padding()
