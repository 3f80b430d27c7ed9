"""The fast from-scratch convolution: one matrix product over channels for each kernel tap, added into the output.

Lay the padded image out as rows of channels, one row a pixel. Then tap (i, j) of the kernel reads the same rows as the
output, shifted by i image lines and j pixels: a slice without a copy, even across images. What is computed where a
shift runs over the end of a line is cut away at the end.

A stride is brought to this form first: the image falls apart into one smaller image for each remainder of the position
by the stride (a "phase"), and each tap reads one of them.

`TapSum` is that sum over taps, and `TapSpread` the same walk backwards, which is the transposed convolution.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.functional import PLAIN, Geometry, as_autocast

Taps = list[tuple[int, int]]  # for each tap its phase, and the rows by which it is shifted


def shift_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Add up one matrix product for each kernel tap, each on a shifted view of the image.

    Source: the fastest form of "Unboxing the blackbox: convolutions" (S4), here with stride, dilation and groups.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in/groups, K_h, K_w).
        bias: (C_out,) or none.
        geometry: Stride, padding, dilation and groups.

    Returns:
        (N, C_out, H_out, W_out), channels_last in memory. Half precision is accumulated in half precision.

    Raises:
        UserError: The input has other channels than the weight takes, or is smaller than the kernel.
    """
    (sh, sw), (ph, pw), dilation, groups = geometry
    out_high, out_wide = geometry.checked_output_size(x, weight)
    images, channels, high, wide = x.shape
    lines, pixels = -(-(high + 2 * ph) // sh), -(-(wide + 2 * pw) // sw)  # of a phase, rounded up

    x, weight = as_autocast(x, weight)
    image = F.pad(x.permute(0, 2, 3, 1), (0, 0, pw, pixels * sw - wide - pw, ph, lines * sh - high - ph))
    phases = image.reshape(images, lines, sh, pixels, sw, groups, channels // groups).permute(2, 4, 5, 0, 1, 3, 6)
    rows = phases.reshape(sh * sw, groups, images * lines * pixels, channels // groups)
    kernels = weight.unflatten(0, (groups, -1)).permute(3, 4, 0, 2, 1).flatten(0, 1)  # (taps, G, C_in/G, C_out/G)
    biases = None if bias is None else bias.to(x.dtype).reshape(groups, 1, -1)
    y = TapSum.apply(rows, kernels, biases, phase_taps(weight, geometry.stride, dilation, pixels))  # (G, rows, C_out/G)
    y = y.unflatten(1, (images, lines, pixels))[:, :, :out_high, :out_wide]
    return y.permute(1, 0, 4, 2, 3).flatten(1, 2)


def phase_taps(weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], pixels: int) -> Taps:
    """Say which phase of an image, in lines of so many pixels, each tap reads, and from which row on."""
    (sh, sw), (dh, dw) = stride, dilation
    positions = ((i * dh, j * dw) for i in range(weight.shape[2]) for j in range(weight.shape[3]))
    return [(top % sh * sw + left % sw, top // sh * pixels + left // sw) for top, left in positions]


def phases_together(phases: Tensor) -> Tensor:
    """Put the phases (S_h, S_w, G, N, H, W, C/G) of an image together: (N, C, S_h * H, S_w * W), channels_last."""
    lines = phases.permute(3, 4, 0, 5, 1, 2, 6)
    return lines.flatten(5, 6).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class TapSum(torch.autograd.Function):
    """y[r] = bias + sum_t rows[phase_t, r + shift_t] @ kernels[t], with the gradients written out.

    Autograd's own gradient of a shifted slice is a whole image of zeros for every tap; adding in place spares them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps) -> Tensor:
        """Take rows (phases, G, R, C_in/G), kernels (taps, G, C_in/G, C_out/G), bias (G, 1, C_out/G).

        Returns:
            (G, R, C_out/G).
        """
        ctx.save_for_backward(rows, kernels)
        ctx.taps = taps
        return _gather(rows, kernels, bias, taps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Give the gradients of rows, kernels and bias."""
        rows, kernels = ctx.saved_tensors
        of_rows = _spread(gradient, kernels.mT, None, ctx.taps, len(rows))
        of_bias = gradient.sum(1, keepdim=True) if ctx.needs_input_grad[2] else None
        return of_rows, _products(rows, gradient, ctx.taps), of_bias, None


class TapSpread(torch.autograd.Function):
    """y[phase_t, r + shift_t] = bias + the sum over all such t of rows[r] @ kernels[t]: the adjoint of `TapSum`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps, phases: int) -> Tensor:
        """Take rows (G, R, C_in/G), kernels (taps, G, C_in/G, C_out/G), bias (G, 1, C_out/G).

        The last rows, as many as the largest shift, are not read: they would run out of the image.

        Returns:
            (phases, G, R, C_out/G).
        """
        ctx.save_for_backward(rows, kernels)
        ctx.taps = taps
        return _spread(rows, kernels, bias, taps, phases)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        """Give the gradients of rows, kernels and bias."""
        rows, kernels = ctx.saved_tensors
        of_rows = _gather(gradient, kernels.mT, None, ctx.taps)
        of_bias = gradient.sum((0, 2)).unsqueeze(1) if ctx.needs_input_grad[2] else None
        return of_rows, _products(gradient, rows, ctx.taps).mT, of_bias, None, None


def _gather(rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps) -> Tensor:
    """Add what the taps read in (phases, G, R, C) into (G, R, C')."""
    y = _filled(bias, rows, (kernels.shape[1], rows.shape[2], kernels.shape[3]))
    count = _count(rows.shape[2], taps)
    for (phase, shift), kernel in zip(taps, kernels, strict=True):
        y[:, :count].baddbmm_(rows[phase, :, shift : shift + count], kernel)
    return y


def _spread(rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps, phases: int) -> Tensor:
    """Add (G, R, C), through the taps, into (phases, G, R, C')."""
    y = _filled(bias, rows, (phases, kernels.shape[1], rows.shape[1], kernels.shape[3]))
    count = _count(rows.shape[1], taps)
    for (phase, shift), kernel in zip(taps, kernels, strict=True):
        y[phase, :, shift : shift + count].baddbmm_(rows[:, :count], kernel)
    return y


def _products(spread: Tensor, gathered: Tensor, taps: Taps) -> Tensor:
    """Multiply (phases, G, R, C) and (G, R, C') over the rows, as each tap joins them: (taps, G, C, C')."""
    count = _count(gathered.shape[1], taps)
    return torch.stack([spread[phase, :, shift : shift + count].mT @ gathered[:, :count] for phase, shift in taps])


def _filled(bias: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    start = like.new_zeros(()) if bias is None else bias
    return start.expand(shape).clone(memory_format=torch.contiguous_format)


def _count(rows: int, taps: Taps) -> int:
    """Count the rows from which no tap runs over the last image."""
    return rows - max(shift for _, shift in taps)
