"""A convolution from scratch without loops at run time: every tap of every channel written out, and compiled into one.

Where there are few channels, as in a picture, matrix products are too small to pay, and the time goes into reading and
writing the image. Written out as a sum, and compiled, the image is read once and the output written once.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.functional import PLAIN, Geometry, as_autocast, insert_zeros
from convbench.errors import UserError, first_cause

PRODUCTS_LIMIT = 128  # of an output pixel over all channels; the compiled code grows with them

Compute = Callable[..., Any]


def fused(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Add up all taps of all channels in one pass, which is compiled at the first call: for few channels.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in/groups, K_h, K_w).
        bias: (C_out,) or none.
        geometry: Stride, padding, dilation and groups.

    Returns:
        (N, C_out, H_out, W_out). Half precision is accumulated in float32.

    Raises:
        UserError: The weight has more than `PRODUCTS_LIMIT` numbers, the input has other channels than the weight
            takes, or is smaller than the kernel.
    """
    reason = _why_not(weight.shape)
    if reason is not None:
        raise UserError(reason)
    geometry.checked_output_size(x, weight)
    x, weight = as_autocast(x, weight)
    bias = None if bias is None else bias.to(x.dtype)
    result: Tensor = _Fused.apply(x, weight, bias, geometry)
    return result


def why_not(conv: Any) -> str | None:
    """Say why `fused` cannot compute a convolution, or None if it can."""
    return _why_not((conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size))


def _why_not(shape: Sequence[int]) -> str | None:
    products = math.prod(shape)
    if products <= PRODUCTS_LIMIT:
        return None
    return (
        f"fused writes every product out, and takes weights of at most {PRODUCTS_LIMIT} numbers, not {products:,}; "
        "choose shift_matmul (conv.implementation)"
    )


class _Fused(torch.autograd.Function):
    """The gradient of a convolution's input is another convolution, which autograd would not see in a sum of taps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        stride, padding, dilation, groups = geometry
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _compiled(_sum_of_taps)(_padded(x, padding), weight, bias, stride, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
            around = _spread_out(gradient, x.shape[2:], weight.shape[2:], stride, padding, dilation)
            of_x = _compiled(_sum_of_taps)(around, flipped, None, (1, 1), dilation, groups)
        if ctx.needs_input_grad[1]:
            sums = _compiled(_products)(_padded(x, padding), gradient, weight.shape, stride, dilation, groups)
            of_weight = sums.view_as(weight).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None


def _sum_of_taps(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], dilation: tuple[int, int], groups: int
) -> Tensor:
    """Convolve a padded image: one sum an output channel."""
    windows = _windows(x, weight.shape, stride, dilation)
    x, weights, outputs = _exact(x), _exact(weight), []
    for o, channels in enumerate(_channels_read(weight.shape, groups)):
        total = None if bias is None else _exact(bias)[o]
        for c, channel in enumerate(channels):
            for i, j, window in windows:
                product = x[:, channel, *window] * weights[o, c, i, j]
                total = product if total is None else total + product
        assert total is not None  # a kernel has a tap
        outputs.append(total)
    return torch.stack(outputs, 1).to(weight.dtype)


def _products(
    x: Tensor,
    gradient: Tensor,
    shape: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Give what each number of a weight of this shape was multiplied with, summed: flat."""
    windows = _windows(x, shape, stride, dilation)
    x, gradient = _exact(x), _exact(gradient)
    return torch.stack(
        [
            (x[:, channel, *window] * gradient[:, o]).sum()
            for o, channels in enumerate(_channels_read(shape, groups))
            for channel in channels
            for _, _, window in windows
        ]
    )


def _windows(
    x: Tensor, shape: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> list[tuple[int, int, tuple[slice, slice]]]:
    """For each tap (i, j) of a kernel the pixels of a padded image that it reads."""
    (sh, sw), (dh, dw), (kh, kw) = stride, dilation, shape[2:]
    high, wide = x.shape[2] - dh * (kh - 1), x.shape[3] - dw * (kw - 1)
    return [
        (i, j, (slice(i * dh, i * dh + high, sh), slice(j * dw, j * dw + wide, sw)))
        for i in range(kh)
        for j in range(kw)
    ]


def _channels_read(shape: tuple[int, ...], groups: int) -> list[range]:
    """For each output channel the input channels that it reads."""
    out_channels, group_channels = shape[:2]
    first = [o // (out_channels // groups) * group_channels for o in range(out_channels)]
    return [range(start, start + group_channels) for start in first]


def _spread_out(
    gradient: Tensor,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Lay the gradient of the output so among zeros that a convolution with the flipped kernel gives that of the input.

    Everything but the gradient, (N, C_out, H_out, W_out), is (height, width): size is that of the input.
    """
    sides: list[int] = []
    for s, p, d, k, extent, pixels in zip(stride, padding, dilation, kernel, size, gradient.shape[2:], strict=True):
        before = d * (k - 1) - p
        after = extent + d * (k - 1) - before - ((pixels - 1) * s + 1)
        sides = [before, after, *sides]  # F.pad starts with the last axis, and crops where a number is negative
    return F.pad(gradient if stride == (1, 1) else insert_zeros(gradient, stride), sides)


def _padded(x: Tensor, padding: tuple[int, int]) -> Tensor:
    return F.pad(x, (padding[1], padding[1], padding[0], padding[0]))


def _exact(x: Tensor) -> Tensor:
    """Half precision in float32, which costs nothing in compiled code."""
    return x.float() if x.dtype in (torch.half, torch.bfloat16) else x


def _compiled(compute: Compute) -> Compute:
    return compute if torch.compiler.is_compiling() else _compiled_alone(compute)  # or with the network around it


@functools.cache
def _compiled_alone(compute: Compute) -> Compute:
    compiled: Compute = torch.compile(compute)  # at the first call: it takes a second to import the compiler

    def checked(*arguments: Any) -> Any:
        try:
            return compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:  # a machine without a C++ compiler, for example
            raise UserError(
                f"fused is compiled when it is first called, and cannot be here ({first_cause(error)}); "
                "choose shift_matmul, or install what is missing (conv.implementation)"
            ) from error

    return checked
