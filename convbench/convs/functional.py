"""What pure functions that compute a convolution share: the geometry, checks, autocast, bias, zeros between pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from convbench.errors import UserError

Size = int | tuple[int, int]


def pair(value: Size) -> tuple[int, int]:
    """Give one number for both axes, or two for (height, width), as two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class Geometry(NamedTuple):
    """How a kernel moves over an image. Unpacked, it is what `F.conv2d` takes after the bias.

    Attributes:
        stride: pixels between two outputs, (height, width).
        padding: rows and columns of zeros on each side, (height, width).
        dilation: pixels between two taps of the kernel, (height, width).
        groups: blocks of channels that are convolved separately.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, stride: Size = 1, padding: Size = 0, dilation: Size = 1, groups: int = 1) -> "Geometry":
        """Accept one number for both axes, as `F.conv2d` does."""
        return cls(pair(stride), pair(padding), pair(dilation), groups)

    def with_groups(self, groups: int) -> "Geometry":
        """The same with another number of groups."""
        return self._replace(groups=groups)

    def output_size(self, size: Sequence[int], kernel_size: Sequence[int]) -> tuple[int, int]:
        """The (height, width) of the output for an image and a kernel of these (height, width)."""
        high, wide = (
            (extent + 2 * p - d * (k - 1) - 1) // s + 1
            for extent, k, s, p, d in zip(size, kernel_size, self.stride, self.padding, self.dilation, strict=True)
        )
        return high, wide

    def checked_output_size(self, x: Tensor, weight: Tensor) -> tuple[int, int]:
        """The (height, width) of the output for x (N, C_in, H, W) and weight (C_out, C_in/groups, K_h, K_w).

        Raises:
            UserError: The input has other channels than the weight takes, or is smaller than the kernel. `F.conv2d`
                raises an error too; a convolution written out may broadcast, or give an empty image, and go on.
        """
        channels = weight.shape[1] * self.groups
        if x.dim() != 4 or x.shape[1] != channels or weight.shape[0] % self.groups:
            raise UserError(
                f"an input {tuple(x.shape)} does not go with a weight {tuple(weight.shape)} and groups {self.groups}; "
                f"choose an input (N, {channels}, H, W) and groups that divide the weight's {weight.shape[0]} kernels"
            )
        high, wide = self.output_size(x.shape[2:], weight.shape[2:])
        if high < 1 or wide < 1:
            raise UserError(
                f"an input {tuple(x.shape)} with padding {self.padding} is smaller than a kernel "
                f"{tuple(weight.shape[2:])} with dilation {self.dilation}; choose larger images or more padding"
            )
        return high, wide


PLAIN = Geometry()  # stride 1, no padding, no dilation, one group


def as_autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cast as autocast casts the arguments of a convolution, which it does not do for sums in place."""
    device = x.device.type
    available = torch.amp.is_autocast_available(device)  # not on meta
    if not available or not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return x, weight
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Add one number to each channel of (N, C, H, W)."""
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def insert_zeros(x: Tensor, step: Size) -> Tensor:
    """Lay the pixels of an image, or the taps of a kernel, `step` apart, with zeros between them."""
    steps = pair(step)
    y = x.new_zeros(*x.shape[:2], *(s * (extent - 1) + 1 for s, extent in zip(steps, x.shape[2:], strict=True)))
    y[:, :, :: steps[0], :: steps[1]] = x
    return y
