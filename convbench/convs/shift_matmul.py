"""The fast from-scratch convolution: one matrix product over channels for each kernel tap, added into the output.

The padded batch is a matrix with one row for each pixel and one column for each channel. Tap (i, j) of the kernel reads
the rows of the output, shifted by i image lines and j pixels. This is a slice of the matrix without a copy, even across
images. Outputs for which a shift crosses the end of a line are invalid, and are removed at the end.

For a stride, the image is first divided into phases: one smaller image for each remainder of the pixel position modulo
the stride. Each tap reads one phase.

`TapSum` computes the sum over taps. `TapSpread` is its adjoint, which gives the transposed convolution.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.functional import PLAIN, Geometry, as_autocast

Taps = list[tuple[int, int]]  # for each tap the index of its phase and its shift in rows


def shift_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Convolve as a sum of one matrix product for each kernel tap, each with a shifted view of the image.

    Source: the fastest form of "Unboxing the blackbox: convolutions" (S4), here with stride, dilation and groups.

    Args:
        x: Input, shape (N, C_in, H, W).
        weight: Weight, shape (C_out, C_in/groups, K_h, K_w).
        bias: Bias, shape (C_out,), or None.
        geometry: Stride, padding, dilation and groups.

    Returns:
        The output, shape (N, C_out, H_out, W_out), channels_last in memory. Half precision is accumulated in half
        precision.

    Raises:
        UserError: The input does not have the number of channels of the weight, or is smaller than the kernel.
    """
    (sh, sw), (ph, pw), dilation, groups = geometry
    out_height, out_width = geometry.checked_output_size(x, weight)
    images, channels, height, width = x.shape
    lines, pixels = -(-(height + 2 * ph) // sh), -(-(width + 2 * pw) // sw)  # size of a phase, rounded up

    x, weight = as_autocast(x, weight)
    image = F.pad(x.permute(0, 2, 3, 1), (0, 0, pw, pixels * sw - width - pw, ph, lines * sh - height - ph))
    phases = image.reshape(images, lines, sh, pixels, sw, groups, channels // groups).permute(2, 4, 5, 0, 1, 3, 6)
    rows = phases.reshape(sh * sw, groups, images * lines * pixels, channels // groups)
    kernels = weight.unflatten(0, (groups, -1)).permute(3, 4, 0, 2, 1).flatten(0, 1)  # (taps, G, C_in/G, C_out/G)
    biases = None if bias is None else bias.to(x.dtype).reshape(groups, 1, -1)
    y = TapSum.apply(rows, kernels, biases, phase_taps(weight, geometry.stride, dilation, pixels))  # (G, rows, C_out/G)
    y = y.unflatten(1, (images, lines, pixels))[:, :, :out_height, :out_width]
    return y.permute(1, 0, 4, 2, 3).flatten(1, 2)


def phase_taps(weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], pixels: int) -> Taps:
    """Return the phase and the shift in rows of each tap, for phases with `pixels` pixels in a line."""
    (sh, sw), (dh, dw) = stride, dilation
    positions = ((i * dh, j * dw) for i in range(weight.shape[2]) for j in range(weight.shape[3]))
    return [(top % sh * sw + left % sw, top // sh * pixels + left // sw) for top, left in positions]


def phases_together(phases: Tensor) -> Tensor:
    """Interleave the phases (S_h, S_w, G, N, H, W, C/G) of an image: (N, C, S_h * H, S_w * W), channels_last."""
    lines = phases.permute(3, 4, 0, 5, 1, 2, 6)
    return lines.flatten(5, 6).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class TapSum(torch.autograd.Function):
    """y[r] = bias + sum_t rows[phase_t, r + shift_t] @ kernels[t], with explicit gradients.

    For each shifted slice, autograd would allocate a gradient of the whole image filled with zeros. The explicit
    gradient adds all taps in place instead.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps) -> Tensor:
        """Compute the sum over taps.

        Args:
            ctx: Context for the backward pass.
            rows: Input, shape (phases, G, R, C_in/G).
            kernels: Kernel of each tap, shape (taps, G, C_in/G, C_out/G).
            bias: Bias, shape (G, 1, C_out/G), or None.
            taps: Phase and shift of each tap.

        Returns:
            The output, shape (G, R, C_out/G).
        """
        ctx.save_for_backward(rows, kernels)
        ctx.taps = taps
        return _gather(rows, kernels, bias, taps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Return the gradients of rows, kernels and bias."""
        rows, kernels = ctx.saved_tensors
        grad_rows = _spread(gradient, kernels.mT, None, ctx.taps, len(rows))
        grad_bias = gradient.sum(1, keepdim=True) if ctx.needs_input_grad[2] else None
        return grad_rows, _kernel_products(rows, gradient, ctx.taps), grad_bias, None


class TapSpread(torch.autograd.Function):
    """The adjoint of `TapSum`: add rows[r] @ kernels[t] to y[phase_t, r + shift_t] for each tap t, and add the bias."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps, phases: int) -> Tensor:
        """Spread each row over the output; the last rows, as many as the largest shift, are not read.

        Args:
            ctx: Context for the backward pass.
            rows: Input, shape (G, R, C_in/G).
            kernels: Kernel of each tap, shape (taps, G, C_in/G, C_out/G).
            bias: Bias, shape (G, 1, C_out/G), or None.
            taps: Phase and shift of each tap.
            phases: Number of phases of the output.

        Returns:
            The output, shape (phases, G, R, C_out/G).
        """
        ctx.save_for_backward(rows, kernels)
        ctx.taps = taps
        return _spread(rows, kernels, bias, taps, phases)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        """Return the gradients of rows, kernels and bias."""
        rows, kernels = ctx.saved_tensors
        grad_rows = _gather(gradient, kernels.mT, None, ctx.taps)
        grad_bias = gradient.sum((0, 2)).unsqueeze(1) if ctx.needs_input_grad[2] else None
        return grad_rows, _kernel_products(gradient, rows, ctx.taps).mT, grad_bias, None, None


def _gather(rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps) -> Tensor:
    """Multiply the rows (phases, G, R, C) that each tap reads with its kernel, and add up: (G, R, C')."""
    y = _bias_or_zeros(bias, rows, (kernels.shape[1], rows.shape[2], kernels.shape[3]))
    count = _valid_rows(rows.shape[2], taps)
    for (phase, shift), kernel in zip(taps, kernels, strict=True):
        y[:, :count].baddbmm_(rows[phase, :, shift : shift + count], kernel)
    return y


def _spread(rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: Taps, phases: int) -> Tensor:
    """Multiply the rows (G, R, C) with the kernel of each tap, and add them where the tap reads: (phases, G, R, C')."""
    y = _bias_or_zeros(bias, rows, (phases, kernels.shape[1], rows.shape[1], kernels.shape[3]))
    count = _valid_rows(rows.shape[1], taps)
    for (phase, shift), kernel in zip(taps, kernels, strict=True):
        y[phase, :, shift : shift + count].baddbmm_(rows[:, :count], kernel)
    return y


def _kernel_products(spread: Tensor, gathered: Tensor, taps: Taps) -> Tensor:
    """Multiply (phases, G, R, C), shifted by each tap, with (G, R, C') over the rows: (taps, G, C, C')."""
    count = _valid_rows(gathered.shape[1], taps)
    return torch.stack([spread[phase, :, shift : shift + count].mT @ gathered[:, :count] for phase, shift in taps])


def _bias_or_zeros(bias: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Allocate the output, filled with the bias or with zeros."""
    start = like.new_zeros(()) if bias is None else bias
    return start.expand(shape).clone(memory_format=torch.contiguous_format)


def _valid_rows(rows: int, taps: Taps) -> int:
    """Return the number of rows for which all taps read inside the batch."""
    return rows - max(shift for _, shift in taps)
