"""What pure functions that compute a convolution share: sizes, checks, autocast, bias, zeros between."""

from collections.abc import Sequence

import torch
from torch import Tensor

from convbench.errors import UserError

Size = int | tuple[int, int]


def pair(value: Size) -> tuple[int, int]:
    """Give one number for both axes, or two for (height, width), as two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def output_size(
    size: Sequence[int], kernel_size: Sequence[int], stride: Size, padding: Size, dilation: Size
) -> tuple[int, int]:
    """Give the (height, width) that a convolution makes of an image of this (height, width)."""
    high, wide = (
        (extent + 2 * p - d * (k - 1) - 1) // s + 1
        for extent, k, s, p, d in zip(size, kernel_size, pair(stride), pair(padding), pair(dilation), strict=True)
    )
    return high, wide


def checked_output_size(
    x: Tensor, weight: Tensor, stride: Size, padding: Size, dilation: Size, groups: int
) -> tuple[int, int]:
    """Give the (height, width) of a convolution's output.

    Raises:
        UserError: The input has other channels than the weight takes, or is smaller than the kernel. `F.conv2d` says
            so too; a convolution written out may broadcast, or give an empty image, and go on.
    """
    channels = weight.shape[1] * groups
    if x.dim() != 4 or x.shape[1] != channels or weight.shape[0] % groups:
        raise UserError(
            f"an input {tuple(x.shape)} does not go with a weight {tuple(weight.shape)} and groups {groups}; choose an "
            f"input (N, {channels}, H, W) and groups that divide the weight's {weight.shape[0]} kernels"
        )
    high, wide = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    if high < 1 or wide < 1:
        raise UserError(
            f"an input {tuple(x.shape)} with padding {pair(padding)} is smaller than a kernel "
            f"{tuple(weight.shape[2:])} with dilation {pair(dilation)}; choose larger images or more padding"
        )
    return high, wide


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
