"""The weighted-sum convolution as fused Triton kernels, for 3 x 3 kernels, stride 1 and padding 1.

The weighted sums over channels ("sums" below) are never written to global memory. In the forward pass, a program
processes a few rows of a block of columns from top to bottom. For each input row, it computes the sums three times: for
the pixels to the left of its columns, in its columns, and to the right of them. It adds them to the three output rows
that depend on this input row. The kernel therefore computes three times as many matrix products as the unfused
implementation. A GPU has enough arithmetic throughput for this, and writing and reading the sums is avoided.

In the backward pass, the gradients of the sums are computed from the gradient of the output where they are needed: once
for the gradient of the input, and once for the gradients of the weights. The latter kernel recomputes the sums.

Images are channels_last in memory, so a pixel is a row of C_in elements and the sums are matrix products. Half
precision is accumulated in float32.

This module requires Triton. The kernels run on CUDA tensors, and on tensors of any device in the interpreter of Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 64  # pixels in a block; with more, or with larger blocks of channels, sm_90 runs out of registers
_CHANNELS = 32  # maximum number of channels in a block
_SPLIT = 256  # maximum number of programs that share the pixels for the gradients of the weights


@triton.jit
def _forward(
    x, mix, kernel, y, images, height, width, c_in, c_out,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Compute `ROWS` output rows of `PIXELS` (image, column) pairs for `OUT` output channels."""
    column = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    image, left = column // width, column % width
    is_column = image < images
    first = tl.program_id(1) * ROWS
    out = tl.program_id(2) * OUT + tl.arange(0, OUT)
    is_out = out < c_out
    k00, k01, k02 = _taps(kernel, out, is_out, 0)
    k10, k11, k12 = _taps(kernel, out, is_out, 1)
    k20, k21, k22 = _taps(kernel, out, is_out, 2)
    # Partial results of the output row above the current input row, and of the output row of the current input row.
    above = tl.zeros((PIXELS, OUT), tl.float32)
    here = tl.zeros((PIXELS, OUT), tl.float32)
    for step in range(ROWS + 2):
        row = first - 1 + step + tl.zeros_like(left)  # one element for each column, because masks need this shape
        is_inside = is_column & (row >= 0) & (row < height)
        pixel = (image * height + row) * width + left
        before = tl.zeros((PIXELS, OUT), tl.float32)
        at = tl.zeros((PIXELS, OUT), tl.float32)
        after = tl.zeros((PIXELS, OUT), tl.float32)
        for start in range(0, c_in, IN):
            channel = start + tl.arange(0, IN)
            is_in = channel < c_in
            weights = tl.load(mix + out[None, :] * c_in + channel[:, None], is_in[:, None] & is_out[None, :], 0.0)
            pointer = x + pixel[:, None] * c_in + channel[None, :]
            mask = is_inside[:, None] & is_in[None, :]
            before = tl.dot(
                tl.load(pointer - c_in, mask & (left > 0)[:, None], 0.0), weights, before, input_precision=PRECISION
            )
            at = tl.dot(tl.load(pointer, mask, 0.0), weights, at, input_precision=PRECISION)
            after = tl.dot(
                tl.load(pointer + c_in, mask & (left < width - 1)[:, None], 0.0), weights, after,
                input_precision=PRECISION,
            )  # fmt: skip
        above += k20 * before + k21 * at + k22 * after
        row_above = (image * height + row - 1) * width + left
        is_done = is_column & (row > first) & (row - 1 < height)
        tl.store(y + row_above[:, None] * c_out + out[None, :], above.to(y.dtype.element_ty),
                 is_done[:, None] & is_out[None, :])  # fmt: skip
        above = here + k10 * before + k11 * at + k12 * after
        here = k00 * before + k01 * at + k02 * after


@triton.jit
def _taps(kernel, out, is_out, row: tl.constexpr):
    """Load the three taps of one row of the kernels, each (1, OUT)."""
    pointer = kernel + out * 9 + 3 * row
    left = tl.load(pointer, is_out, 0.0).to(tl.float32)[None, :]
    middle = tl.load(pointer + 1, is_out, 0.0).to(tl.float32)[None, :]
    right = tl.load(pointer + 2, is_out, 0.0).to(tl.float32)[None, :]
    return left, middle, right


@triton.jit
def _backward_x(
    gradient, mix, kernel, gradient_x, pixels, height, width, c_in, c_out,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the input for `PIXELS` pixels and `IN` input channels."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    row, left = pixel // width % height, pixel % width
    channel = tl.program_id(1) * IN + tl.arange(0, IN)
    is_in = channel < c_in
    total = tl.zeros((PIXELS, IN), tl.float32)
    for start in range(0, c_out, OUT):
        out = start + tl.arange(0, OUT)
        is_out = out < c_out
        grad_sums = tl.zeros((PIXELS, OUT), tl.float32)
        for i in tl.static_range(3):
            for j in tl.static_range(3):
                tap = tl.load(kernel + out * 9 + 3 * i + j, is_out, 0.0).to(tl.float32)
                exists = _has_output(pixel, row, left, pixels, height, width, i, j)
                pointer = gradient + (pixel + (1 - i) * width + 1 - j)[:, None] * c_out + out[None, :]
                grad_sums += tap[None, :] * tl.load(pointer, exists[:, None] & is_out[None, :], 0.0).to(tl.float32)
        weights = tl.load(mix + out[:, None] * c_in + channel[None, :], is_out[:, None] & is_in[None, :], 0.0)
        total = tl.dot(grad_sums.to(weights.dtype), weights, total, input_precision=PRECISION)
    tl.store(
        gradient_x + pixel[:, None] * c_in + channel[None, :], total.to(gradient_x.dtype.element_ty),
        (pixel < pixels)[:, None] & is_in[None, :],
    )  # fmt: skip


@triton.jit
def _has_output(pixel, row, left, pixels, height, width, i: tl.constexpr, j: tl.constexpr):
    """Return whether the output pixel exists whose tap (i, j) reads this pixel."""
    down, right = row + 1 - i, left + 1 - j
    return (pixel < pixels) & (down >= 0) & (down < height) & (right >= 0) & (right < width)


@triton.jit
def _backward_weights(
    x, gradient, mix, kernel, gradient_mix, gradient_kernel, pixels, height, width, c_in, c_out,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """Compute partial gradients of the weights for `OUT` output channels.

    The blocks of `PIXELS` pixels are distributed over the programs of grid axis 0, each of which writes its own partial
    sum.
    """
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    channel = tl.arange(0, IN)
    is_out, is_in = out < c_out, channel < c_in
    is_weight = is_out[:, None] & is_in[None, :]
    weights = tl.load(mix + out[:, None] * c_in + channel[None, :], is_weight, 0.0)
    slot = tl.arange(0, 16)  # nine taps, rounded up to a power of two
    grad_mix = tl.zeros((OUT, IN), tl.float32)
    grad_kernel = tl.zeros((16, OUT), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(pixels, PIXELS), tl.num_programs(0)):
        pixel = block * PIXELS + tl.arange(0, PIXELS)
        row, left = pixel // width % height, pixel % width
        rows = tl.load(x + pixel[:, None] * c_in + channel[None, :], (pixel < pixels)[:, None] & is_in[None, :], 0.0)
        sums = tl.dot(rows, tl.trans(weights), input_precision=PRECISION)
        grad_sums = tl.zeros((PIXELS, OUT), tl.float32)
        for i in tl.static_range(3):
            for j in tl.static_range(3):
                tap = tl.load(kernel + out * 9 + 3 * i + j, is_out, 0.0).to(tl.float32)
                exists = _has_output(pixel, row, left, pixels, height, width, i, j)
                pointer = gradient + (pixel + (1 - i) * width + 1 - j)[:, None] * c_out + out[None, :]
                grad_y = tl.load(pointer, exists[:, None] & is_out[None, :], 0.0).to(tl.float32)
                grad_sums += tap[None, :] * grad_y
                grad_kernel += tl.where((slot == 3 * i + j)[:, None], tl.sum(grad_y * sums, 0)[None, :], 0.0)
        grad_mix = tl.dot(tl.trans(grad_sums.to(rows.dtype)), rows, grad_mix, input_precision=PRECISION)
    part = tl.program_id(0)
    tl.store(gradient_mix + (part * c_out + out)[:, None] * c_in + channel[None, :], grad_mix, is_weight)
    tl.store(
        gradient_kernel + (part * 9 + slot)[:, None] * c_out + out[None, :], grad_kernel,
        (slot < 9)[:, None] & is_out[None, :],
    )  # fmt: skip


@torch.library.custom_op("convbench::weighted_sum", mutates_args=())
def weighted_sum(x: Tensor, mix: Tensor, kernel: Tensor) -> Tensor:
    """Compute weighted sums over channels, then convolve each with one 3 x 3 kernel, with zero padding.

    Args:
        x: Input, shape (N, C_in, H, W); converted to channels_last.
        mix: Weights of the sums, shape (C_out, C_in, 1, 1), dtype of x.
        kernel: One kernel for each output channel, shape (C_out, 1, 3, 3), dtype of x.

    Returns:
        The output, shape (N, C_out, H, W), channels_last.
    """
    images, c_in, height, width = x.shape
    c_out = len(mix)
    x, mix, kernel = x.contiguous(memory_format=torch.channels_last), mix.contiguous(), kernel.contiguous()
    y = _empty(x, mix)
    out, rows = _block(c_out), min(8, height)
    grid = (triton.cdiv(images * width, _PIXELS), triton.cdiv(height, rows), triton.cdiv(c_out, out))
    _forward[grid](
        x, mix, kernel, y, images, height, width, c_in, c_out, _precision(x), _PIXELS, out, _block(c_in), rows,
        num_stages=1, num_warps=_warps(out), enable_fp_fusion=True,
    )  # fmt: skip
    return y


@weighted_sum.register_fake
def _empty(x: Tensor, mix: Tensor, kernel: Tensor | None = None) -> Tensor:
    shape = (x.shape[0], mix.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.custom_op("convbench::weighted_sum_backward", mutates_args=())
def weighted_sum_backward(gradient: Tensor, x: Tensor, mix: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of x, mix and kernel from the gradient of the output, with the shapes of `weighted_sum`."""
    images, c_in, height, width = x.shape
    c_out, pixels = len(mix), images * height * width
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    x, mix, kernel = x.contiguous(memory_format=torch.channels_last), mix.contiguous(), kernel.contiguous()
    gradient_x = torch.empty_like(x)
    size, precision = (pixels, height, width, c_in, c_out), _precision(x)
    out, channels = _block(c_out), _block(c_in)
    grid = (triton.cdiv(pixels, _PIXELS), triton.cdiv(c_in, channels))
    _backward_x[grid](
        gradient, mix, kernel, gradient_x, *size, precision, _PIXELS, out, channels,
        num_stages=1, num_warps=_warps(out), enable_fp_fusion=True,
    )  # fmt: skip
    # This kernel processes all input channels in one block, so blocks of outputs and pixels shrink with their number.
    all_channels = max(16, triton.next_power_of_2(c_in))
    out, block = max(16, min(out, 8192 // all_channels)), _PIXELS if all_channels <= 64 else 32
    parts = min(_SPLIT, triton.cdiv(pixels, block))
    grad_mix = torch.empty((parts, c_out, c_in), dtype=torch.float32, device=x.device)
    grad_kernel = torch.empty((parts, 9, c_out), dtype=torch.float32, device=x.device)
    _backward_weights[parts, triton.cdiv(c_out, out)](
        x, gradient, mix, kernel, grad_mix, grad_kernel, *size, precision, block, out, all_channels,
        num_stages=1, num_warps=8, enable_fp_fusion=True,
    )  # fmt: skip
    return (
        gradient_x,
        grad_mix.sum(0).to(mix.dtype).view_as(mix),
        grad_kernel.sum(0).T.to(kernel.dtype).reshape(kernel.shape),
    )


@weighted_sum_backward.register_fake
def _(gradient: Tensor, x: Tensor, mix: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    like_x = torch.empty_like(x, memory_format=torch.channels_last)
    return like_x, torch.empty_like(mix, memory_format=torch.contiguous_format), kernel.new_empty(kernel.shape)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return weighted_sum_backward(gradient, *ctx.saved_tensors)  # type: ignore[attr-defined]


weighted_sum.register_autograd(_gradients, setup_context=_save)


def _block(channels: int) -> int:
    """Return the number of channels in a block: a power of two, and at least 16, as `tl.dot` requires."""
    return max(16, min(_CHANNELS, triton.next_power_of_2(channels)))


def _warps(out: int) -> int:
    return 4 if out == 16 else 8


def _precision(x: Tensor) -> str:
    """Return the precision of float32 matrix products that is set in PyTorch, `tf32` or `ieee`."""
    return "tf32" if x.is_cuda and torch.get_float32_matmul_precision() != "highest" else "ieee"
