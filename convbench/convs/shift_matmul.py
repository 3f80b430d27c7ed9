"""The fast from-scratch convolution: one matrix product over channels for each kernel tap, added into the output.

Lay the padded image out as rows of channels, one row a pixel. Then tap (i, j) of the kernel reads the same rows as the
output, shifted by i image lines and j pixels: a slice without a copy, even across images. What is computed where a
shift runs over the end of a line is cut away at the end.

A stride is brought to this form first: the image falls apart into one smaller image for each remainder of the position
by the stride (a "phase"), and each tap reads one of them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Size, output_size, pair


def shift_matmul(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Add up one matrix product for each kernel tap, each on a shifted view of the image.

    Source: the fastest form of "Unboxing the blackbox: convolutions" (S4), here with stride, dilation and groups.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in/groups, K_h, K_w).
        bias: (C_out,) or none.
        stride: One number, or (height, width), as are the next two.
        padding: Zeros on each side, in pixels.
        dilation: Pixels between two taps.
        groups: Blocks of channels that are convolved apart.

    Returns:
        (N, C_out, H_out, W_out), channels_last in memory. Half precision is accumulated in half precision.
    """
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding), pair(dilation)
    images, channels, high, wide = x.shape
    kh, kw = weight.shape[2:]
    out_high, out_wide = output_size((high, wide), (kh, kw), stride, padding, dilation)
    lines, pixels = -(-(high + 2 * ph) // sh), -(-(wide + 2 * pw) // sw)  # of a phase, rounded up

    if torch.is_autocast_enabled(x.device.type):  # adding in place is not cast by autocast
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    image = F.pad(x.permute(0, 2, 3, 1), (0, 0, pw, pixels * sw - wide - pw, ph, lines * sh - high - ph))
    phases = image.reshape(images, lines, sh, pixels, sw, groups, -1).permute(2, 4, 5, 0, 1, 3, 6)
    rows = phases.reshape(sh * sw, groups, images * lines * pixels, channels // groups)
    taps = [
        (i * dh % sh * sw + j * dw % sw, i * dh // sh * pixels + j * dw // sw) for i in range(kh) for j in range(kw)
    ]
    kernels = weight.unflatten(0, (groups, -1)).permute(3, 4, 0, 2, 1).flatten(0, 1)  # (taps, G, C_in/G, C_out/G)
    biases = None if bias is None else bias.to(x.dtype).reshape(groups, 1, -1)
    y = _TapSum.apply(rows, kernels, biases, taps)  # (G, rows, C_out/G)
    y = y.unflatten(1, (images, lines, pixels))[:, :, :out_high, :out_wide]
    return y.permute(1, 0, 4, 2, 3).flatten(1, 2)


class _TapSum(torch.autograd.Function):
    """y[r] = bias + sum_t rows[phase_t, r + shift_t] @ kernels[t], with the gradients written out.

    Autograd's own gradient of a shifted slice is a whole image of zeros for every tap; adding in place spares them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernels: Tensor, bias: Tensor | None, taps: list[tuple[int, int]]) -> Tensor:
        """Take rows (phases, G, R, C_in/G), kernels (taps, G, C_in/G, C_out/G), bias (G, 1, C_out/G).

        Returns:
            (G, R, C_out/G).
        """
        ctx.save_for_backward(rows, kernels)
        ctx.taps = taps
        count = rows.shape[2] - max(shift for _, shift in taps)  # rows from which no tap runs over the last image
        start = rows.new_zeros(()) if bias is None else bias
        y = start.expand(kernels.shape[1], rows.shape[2], kernels.shape[3]).clone(memory_format=torch.contiguous_format)
        for (phase, shift), kernel in zip(taps, kernels, strict=True):
            y[:, :count].baddbmm_(rows[phase, :, shift : shift + count], kernel)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Give the gradients of rows, kernels and bias."""
        rows, kernels = ctx.saved_tensors
        count = rows.shape[2] - max(shift for _, shift in ctx.taps)
        gradient = gradient[:, :count]
        of_rows, of_kernels = torch.zeros_like(rows), []
        for (phase, shift), kernel in zip(ctx.taps, kernels, strict=True):
            of_rows[phase, :, shift : shift + count].baddbmm_(gradient, kernel.mT)
            of_kernels.append(rows[phase, :, shift : shift + count].mT @ gradient)
        of_bias = gradient.sum(1, keepdim=True) if ctx.needs_input_grad[2] else None
        return of_rows, torch.stack(of_kernels), of_bias, None
