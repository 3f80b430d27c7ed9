"""Helpers of the pure functions that compute convolutions: geometry, shape checks, autocast, bias, inserted zeros."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from convbench.errors import UserError

Size = int | tuple[int, int]


def pair(value: Size) -> tuple[int, int]:
    """Convert one number for both axes, or two for (height, width), to a pair (height, width)."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class Geometry(NamedTuple):
    """The geometry of a convolution, in the order of the arguments of `F.conv2d` after the bias.

    Attributes:
        stride: Distance between two outputs in input pixels, (height, width).
        padding: Number of rows and columns of zeros on each side, (height, width).
        dilation: Distance between two kernel taps in pixels, (height, width).
        groups: Number of groups of channels that are convolved separately.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, stride: Size = 1, padding: Size = 0, dilation: Size = 1, groups: int = 1) -> "Geometry":
        """Create a geometry from numbers or pairs, as `F.conv2d` accepts them."""
        return cls(pair(stride), pair(padding), pair(dilation), groups)

    def with_groups(self, groups: int) -> "Geometry":
        """Return the same geometry with another number of groups."""
        return self._replace(groups=groups)

    def output_size(self, size: Sequence[int], kernel_size: Sequence[int]) -> tuple[int, int]:
        """Return the (height, width) of the output for the (height, width) of an image and of a kernel."""
        height, width = (
            (extent + 2 * p - d * (k - 1) - 1) // s + 1
            for extent, k, s, p, d in zip(size, kernel_size, self.stride, self.padding, self.dilation, strict=True)
        )
        return height, width

    def checked_output_size(self, x: Tensor, weight: Tensor) -> tuple[int, int]:
        """Return the (height, width) of the output for x (N, C_in, H, W) and weight (C_out, C_in/groups, K_h, K_w).

        Raises:
            UserError: The input does not have the number of channels of the weight, or is smaller than the kernel.
                `F.conv2d` raises an error, too. Without this check, a convolution written in Python could broadcast, or
                return an empty image.
        """
        channels = weight.shape[1] * self.groups
        if x.dim() != 4 or x.shape[1] != channels or weight.shape[0] % self.groups:
            raise UserError(
                f"an input {tuple(x.shape)} does not match a weight {tuple(weight.shape)} and groups {self.groups}; "
                f"choose an input (N, {channels}, H, W) and groups that divide the weight's {weight.shape[0]} kernels"
            )
        height, width = self.output_size(x.shape[2:], weight.shape[2:])
        if height < 1 or width < 1:
            raise UserError(
                f"an input {tuple(x.shape)} with padding {self.padding} is smaller than a kernel "
                f"{tuple(weight.shape[2:])} with dilation {self.dilation}; choose larger images or more padding"
            )
        return height, width


PLAIN = Geometry()  # the defaults of F.conv2d: stride 1, no padding, no dilation, one group


def as_autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cast an input and a weight as autocast casts those of `F.conv2d`; it does not cast those of in-place products."""
    device = x.device.type
    available = torch.amp.is_autocast_available(device)  # False on the meta device
    if not available or not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return x, weight
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Add a bias (C,), or None, to the channels of y (N, C, H, W)."""
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def insert_zeros(x: Tensor, step: Size) -> Tensor:
    """Insert zeros between the pixels of an image, or the taps of a kernel, so that they are `step` pixels apart."""
    steps = pair(step)
    y = x.new_zeros(*x.shape[:2], *(s * (extent - 1) + 1 for s, extent in zip(steps, x.shape[2:], strict=True)))
    y[:, :, :: steps[0], :: steps[1]] = x
    return y
