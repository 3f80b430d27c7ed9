"""The pyramidal convolution: parallel kernels of several sizes, where the larger ones have more groups."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry
from convbench.convs.grouped import block_diagonal
from convbench.errors import UserError

# All implementations take x (N, C_in, H, W), weights (C_l, C_in/G_l, K_h + 2l, K_w + 2l) for each level l, the groups
# G_l of the levels, bias (C_out,) or None, and the geometry of the largest kernel. They return
# (N, C_out, H_out, W_out).


def levels(
    x: Tensor, weights: Sequence[Tensor], groups: Sequence[int], bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Convolve once for each level and concatenate the results: the published form."""
    outputs = []
    for level, (weight, level_groups) in enumerate(zip(weights, groups, strict=True)):
        margin = len(weights) - 1 - level  # the largest kernel extends so many taps further on each side
        ph, pw = (p - margin * d for p, d in zip(geometry.padding, geometry.dilation, strict=True))
        # A negative number means that x has been padded for the largest kernel already: F.pad crops the excess.
        cropped = F.pad(x, (min(pw, 0), min(pw, 0), min(ph, 0), min(ph, 0)))
        level_geometry = geometry._replace(padding=(max(ph, 0), max(pw, 0)), groups=level_groups)
        outputs.append(F.conv2d(cropped, weight, None, *level_geometry))
    y = torch.cat(outputs, 1)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def folded(
    x: Tensor, weights: Sequence[Tensor], groups: Sequence[int], bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """Fold all levels into one dense kernel of the largest size, padded with zeros, and convolve once."""
    kernels = [
        F.pad(block_diagonal(weight, level_groups), [len(weights) - 1 - level] * 4)
        for level, (weight, level_groups) in enumerate(zip(weights, groups, strict=True))
    ]
    return F.conv2d(x, torch.cat(kernels), bias, *geometry)


class PyramidalConv2d(Conv2dBase):
    """Parallel convolutions with kernels of several sizes: K x K for the first level, K + 2 for the next, and so on.

        y[n, o of level l] = bias[o] + sum_{i in the group of o} weight_l[o, i] * x[n, i],   weight_l of size K + 2l

    The output channels are divided evenly among the levels; the first levels get the remainder. Level l has
    `level_groups[l]` groups, so that the larger kernels have fewer input channels each and all levels cost about the
    same. The padding grows with the kernel, so that all levels have the output size of the layer.

    This is the multi-scale convolution of convbench. The better known octave convolution keeps two tensors of different
    resolution between layers, so it can only replace all layers of a network together. This class replaces any single
    layer with a spatial kernel. The following layers are refused: 1x1 layers, grouped layers, and layers whose channels
    cannot be divided into these levels and groups.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weights.l`
    (C_l, C_in/level_groups[l], K_h + 2l, K_w + 2l) for each level l, and `bias` (C_out,). Each level is
    initialised as the `nn.Conv2d` of its shape.

    Source: Duta, Liu, Zhu and Shao, "Pyramidal Convolution: Rethinking Convolutional Neural Networks for Visual
    Recognition", 2020, arXiv 2006.11538 (levels with 1, 4, 8 and 16 groups).

    Raises:
        UnsupportedLayerError: The layer is refused for one of the reasons above.
        UserError: An argument is out of range or incompatible with another argument.
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
        for level_group in self.level_groups:
            self._checked_int("level_groups", level_group, key=" (conv.level_groups)")
        level_channels = self._level_channels()
        self.weights = nn.ParameterList(
            self._parameter(channels, self.in_channels // groups, *(size + 2 * level for size in self.kernel_size))
            for level, (channels, groups) in enumerate(zip(level_channels, self.level_groups, strict=True))
        )
        self._enlarge(len(level_channels) - 1)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise each level as an `nn.Conv2d` of its shape, and the bias as that of the first level."""
        for level, weight in enumerate(self.weights):
            initialise_like_conv2d(weight, None if level else self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), list(self.weights), self.level_groups, self.bias, self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the groups of the levels."""
        return f"{super().extra_repr()}, level_groups={self.level_groups}"

    def _level_channels(self) -> list[int]:
        """Return the number of output channels of each level."""
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        levels = len(self.level_groups)
        share, remainder = divmod(self.out_channels, levels)
        channels = [share + (level < remainder) for level in range(levels)]
        if any(not c or c % g or self.in_channels % g for c, g in zip(channels, self.level_groups, strict=True)):
            self._refuse(
                f"cannot split {self.in_channels} input and {self.out_channels} output channels into levels with "
                f"{list(self.level_groups)} groups (conv.level_groups)"
            )
        return channels

    def _enlarge(self, steps: int) -> None:
        """Set the kernel size to that of the last level, and increase the padding accordingly."""
        if self.padding != "same":
            padding = (0, 0) if isinstance(self.padding, str) else self.padding
            self.padding = (padding[0] + steps * self.dilation[0], padding[1] + steps * self.dilation[1])
        self.kernel_size = (self.kernel_size[0] + 2 * steps, self.kernel_size[1] + 2 * steps)
        self._resolve_padding()
