"""A convolution from scratch as an unrolled sum over taps and channels, which torch.compile fuses into one kernel.

With few channels, as in a picture, matrix products are too small to be efficient, and the memory traffic of the image
dominates the time. The fused kernel reads the image once and writes the output once.
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

PRODUCTS_LIMIT = 128  # products for one pixel of all output channels; the size of the compiled code is proportional

Compute = Callable[..., Any]


def fused(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Add up the products of all taps and channels in one kernel, compiled at the first call; for few channels.

    Args:
        x: Input, shape (N, C_in, H, W).
        weight: Weight, shape (C_out, C_in/groups, K_h, K_w).
        bias: Bias, shape (C_out,), or None.
        geometry: Stride, padding, dilation and groups.

    Returns:
        The output, shape (N, C_out, H_out, W_out). Half precision is accumulated in float32.

    Raises:
        UserError: The weight has more than `PRODUCTS_LIMIT` elements, the input does not have the number of channels of
            the weight, or the input is smaller than the kernel.
    """
    reason = _unsupported_reason(weight.shape)
    if reason is not None:
        raise UserError(reason)
    geometry.checked_output_size(x, weight)
    x, weight = as_autocast(x, weight)
    bias = None if bias is None else bias.to(x.dtype)
    result: Tensor = _Fused.apply(x, weight, bias, geometry)
    return result


def why_not(conv: Any) -> str | None:
    """Return the reason why `fused` cannot compute a convolution, or None if it can."""
    return _unsupported_reason((conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size))


def _unsupported_reason(shape: Sequence[int]) -> str | None:
    products = math.prod(shape)
    if products <= PRODUCTS_LIMIT:
        return None
    return (
        f"fused unrolls every product, and supports weights of at most {PRODUCTS_LIMIT} elements, not {products:,}; "
        "choose shift_matmul (conv.implementation)"
    )


class _Fused(torch.autograd.Function):
    """The fused convolution with explicit gradients.

    The gradient of the input is another convolution, which is fused, too. Autograd would differentiate every product of
    the unrolled sum separately.
    """

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
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
            dilated = _dilated_gradient(gradient, x.shape[2:], weight.shape[2:], stride, padding, dilation)
            grad_x = _compiled(_sum_of_taps)(dilated, flipped, None, (1, 1), dilation, groups)
        if ctx.needs_input_grad[1]:
            flat = _compiled(_weight_gradient)(_padded(x, padding), gradient, weight.shape, stride, dilation, groups)
            grad_weight = flat.view_as(weight).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = gradient.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None


def _sum_of_taps(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], dilation: tuple[int, int], groups: int
) -> Tensor:
    """Convolve a padded image, with one unrolled sum for each output channel."""
    windows = _windows(x, weight.shape, stride, dilation)
    x, weights, outputs = _half_to_float32(x), _half_to_float32(weight), []
    for o, channels in enumerate(_input_channels(weight.shape, groups)):
        total = None if bias is None else _half_to_float32(bias)[o]
        for c, channel in enumerate(channels):
            for i, j, window in windows:
                product = x[:, channel, *window] * weights[o, c, i, j]
                total = product if total is None else total + product
        assert total is not None  # a kernel has at least one tap
        outputs.append(total)
    return torch.stack(outputs, 1).to(weight.dtype)


def _weight_gradient(
    x: Tensor,
    gradient: Tensor,
    shape: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Return the flattened gradient of a weight of this shape, for a padded image and the gradient of the output."""
    windows = _windows(x, shape, stride, dilation)
    x, gradient = _half_to_float32(x), _half_to_float32(gradient)
    return torch.stack(
        [
            (x[:, channel, *window] * gradient[:, o]).sum()
            for o, channels in enumerate(_input_channels(shape, groups))
            for channel in channels
            for _, _, window in windows
        ]
    )


def _windows(
    x: Tensor, shape: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> list[tuple[int, int, tuple[slice, slice]]]:
    """Return each tap (i, j) of a kernel with the slices of the rows and columns of a padded image that it reads."""
    (sh, sw), (dh, dw), (kh, kw) = stride, dilation, shape[2:]
    span_h, span_w = x.shape[2] - dh * (kh - 1), x.shape[3] - dw * (kw - 1)
    return [
        (i, j, (slice(i * dh, i * dh + span_h, sh), slice(j * dw, j * dw + span_w, sw)))
        for i in range(kh)
        for j in range(kw)
    ]


def _input_channels(shape: tuple[int, ...], groups: int) -> list[range]:
    """Return the input channels of each output channel, for a weight of this shape."""
    out_channels, group_channels = shape[:2]
    first = [o // (out_channels // groups) * group_channels for o in range(out_channels)]
    return [range(start, start + group_channels) for start in first]


def _dilated_gradient(
    gradient: Tensor,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Dilate and pad the gradient of the output, so that its convolution with the flipped kernel is that of the input.

    Args:
        gradient: Gradient of the output, shape (N, C_out, H_out, W_out).
        size: Size of the input, (height, width).
        kernel: Size of the kernel, (height, width).
        stride: Stride of the convolution, (height, width).
        padding: Padding of the convolution, (height, width).
        dilation: Dilation of the convolution, (height, width).
    """
    pads: list[int] = []
    for s, p, d, k, extent, pixels in zip(stride, padding, dilation, kernel, size, gradient.shape[2:], strict=True):
        before = d * (k - 1) - p
        after = extent + d * (k - 1) - before - ((pixels - 1) * s + 1)
        pads = [before, after, *pads]  # F.pad starts with the last axis, and crops for negative numbers
    return F.pad(gradient if stride == (1, 1) else insert_zeros(gradient, stride), pads)


def _padded(x: Tensor, padding: tuple[int, int]) -> Tensor:
    return F.pad(x, (padding[1], padding[1], padding[0], padding[0]))


def _half_to_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32, which takes no additional memory traffic in compiled code."""
    return x.float() if x.dtype in (torch.half, torch.bfloat16) else x


def _compiled(compute: Compute) -> Compute:
    """Return the compiled function, or the function itself inside a network that is being compiled as a whole."""
    return compute if torch.compiler.is_compiling() else _compiled_separately(compute)


@functools.cache
def _compiled_separately(compute: Compute) -> Compute:
    compiled: Compute = torch.compile(compute)  # not at import, because importing the compiler takes a second

    def checked(*arguments: Any) -> Any:
        try:
            return compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:  # for example without a C++ compiler
            raise UserError(
                f"fused cannot be compiled on this machine ({first_cause(error)}); "
                "choose shift_matmul, or install the missing dependency (conv.implementation)"
            ) from error

    return checked
