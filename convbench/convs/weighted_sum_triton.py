"""The weighted-sum convolution in one pass over the image on a GPU, with 3 x 3 kernels, stride 1 and padding 1.

The sums over channels never leave the chip. Forward, a program walks down a few rows of its columns; with each row that
it meets it makes the sums three times, of the pixels to the left, at, and to the right of its columns, and adds them to
the three output rows that see this row. That is three products where the plain way makes one, but products are what
such a chip has in plenty: what is spared is to write the sums to memory and to read them again.

Backward, gradients of the sums are gathered from the output's where they are needed: once for the input's gradient, and
once for those of the weights, for which the sums are made again instead of kept.

Images lie in memory as channels_last, so a pixel is a row of C_in numbers and the sums are matrix products. Half
precision is added up in float32.

Needs Triton; runs on CUDA tensors, and on any in Triton's interpreter.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 64  # of a program; with more, or with larger blocks of channels, sm_90 runs out of registers
_CHANNELS = 32
_SPLIT = 256  # programs among which the pixels are divided for the gradients of the weights


@triton.jit
def _forward(
    x, mix, kernel, y, images, high, wide, c_in, c_out,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Columns of `PIXELS` (image, column) pairs, `ROWS` rows down, `OUT` output channels."""
    column = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    image, left = column // wide, column % wide
    is_column = image < images
    first = tl.program_id(1) * ROWS
    out = tl.program_id(2) * OUT + tl.arange(0, OUT)
    is_out = out < c_out
    k00, k01, k02 = _taps(kernel, out, is_out, 0)
    k10, k11, k12 = _taps(kernel, out, is_out, 1)
    k20, k21, k22 = _taps(kernel, out, is_out, 2)
    # Of the output row above the one at hand, and of that at hand, what is known so far.
    above = tl.zeros((PIXELS, OUT), tl.float32)
    here = tl.zeros((PIXELS, OUT), tl.float32)
    for step in range(ROWS + 2):
        row = first - 1 + step + tl.zeros_like(left)  # for each column, as masks have to be
        is_inside = is_column & (row >= 0) & (row < high)
        pixel = (image * high + row) * wide + left
        before = tl.zeros((PIXELS, OUT), tl.float32)
        at = tl.zeros((PIXELS, OUT), tl.float32)
        after = tl.zeros((PIXELS, OUT), tl.float32)
        for start in range(0, c_in, IN):
            channel = start + tl.arange(0, IN)
            is_in = channel < c_in
            weights = tl.load(mix + out[None, :] * c_in + channel[:, None], is_in[:, None] & is_out[None, :], 0.0)
            place = x + pixel[:, None] * c_in + channel[None, :]
            seen = is_inside[:, None] & is_in[None, :]
            before = tl.dot(
                tl.load(place - c_in, seen & (left > 0)[:, None], 0.0), weights, before, input_precision=PRECISION
            )
            at = tl.dot(tl.load(place, seen, 0.0), weights, at, input_precision=PRECISION)
            after = tl.dot(
                tl.load(place + c_in, seen & (left < wide - 1)[:, None], 0.0), weights, after,
                input_precision=PRECISION,
            )  # fmt: skip
        above += k20 * before + k21 * at + k22 * after
        row_above = (image * high + row - 1) * wide + left
        is_done = is_column & (row > first) & (row - 1 < high)
        tl.store(y + row_above[:, None] * c_out + out[None, :], above.to(y.dtype.element_ty),
                 is_done[:, None] & is_out[None, :])  # fmt: skip
        above = here + k10 * before + k11 * at + k12 * after
        here = k00 * before + k01 * at + k02 * after


@triton.jit
def _taps(kernel, out, is_out, row: tl.constexpr):
    """The three taps of a row of the kernels, each (1, OUT)."""
    place = kernel + out * 9 + 3 * row
    one = tl.load(place, is_out, 0.0).to(tl.float32)[None, :]
    two = tl.load(place + 1, is_out, 0.0).to(tl.float32)[None, :]
    three = tl.load(place + 2, is_out, 0.0).to(tl.float32)[None, :]
    return one, two, three


@triton.jit
def _backward_x(
    gradient, mix, kernel, gradient_x, pixels, high, wide, c_in, c_out,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """The input's gradient at `PIXELS` pixels and `IN` input channels."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    row, left = pixel // wide % high, pixel % wide
    channel = tl.program_id(1) * IN + tl.arange(0, IN)
    is_in = channel < c_in
    total = tl.zeros((PIXELS, IN), tl.float32)
    for start in range(0, c_out, OUT):
        out = start + tl.arange(0, OUT)
        is_out = out < c_out
        sums = tl.zeros((PIXELS, OUT), tl.float32)
        for i in tl.static_range(3):
            for j in tl.static_range(3):
                tap = tl.load(kernel + out * 9 + 3 * i + j, is_out, 0.0).to(tl.float32)
                seen = _seen(pixel, row, left, pixels, high, wide, i, j)
                place = gradient + (pixel + (1 - i) * wide + 1 - j)[:, None] * c_out + out[None, :]
                sums += tap[None, :] * tl.load(place, seen[:, None] & is_out[None, :], 0.0).to(tl.float32)
        weights = tl.load(mix + out[:, None] * c_in + channel[None, :], is_out[:, None] & is_in[None, :], 0.0)
        total = tl.dot(sums.to(weights.dtype), weights, total, input_precision=PRECISION)
    tl.store(
        gradient_x + pixel[:, None] * c_in + channel[None, :], total.to(gradient_x.dtype.element_ty),
        (pixel < pixels)[:, None] & is_in[None, :],
    )  # fmt: skip


@triton.jit
def _seen(pixel, row, left, pixels, high, wide, i: tl.constexpr, j: tl.constexpr):
    """Whether the output pixel that sees this pixel through tap (i, j) exists."""
    down, right = row + 1 - i, left + 1 - j
    return (pixel < pixels) & (down >= 0) & (down < high) & (right >= 0) & (right < wide)


@triton.jit
def _backward_weights(
    x, gradient, mix, kernel, gradient_mix, gradient_kernel, pixels, high, wide, c_in, c_out,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """A share of the weights' gradients, of `OUT` output channels, over every so manyth block of `PIXELS` pixels."""
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    channel = tl.arange(0, IN)
    is_out, is_in = out < c_out, channel < c_in
    is_weight = is_out[:, None] & is_in[None, :]
    weights = tl.load(mix + out[:, None] * c_in + channel[None, :], is_weight, 0.0)
    slot = tl.arange(0, 16)  # for the nine taps
    of_mix = tl.zeros((OUT, IN), tl.float32)
    of_kernel = tl.zeros((16, OUT), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(pixels, PIXELS), tl.num_programs(0)):
        pixel = block * PIXELS + tl.arange(0, PIXELS)
        row, left = pixel // wide % high, pixel % wide
        rows = tl.load(x + pixel[:, None] * c_in + channel[None, :], (pixel < pixels)[:, None] & is_in[None, :], 0.0)
        sums = tl.dot(rows, tl.trans(weights), input_precision=PRECISION)
        of_sums = tl.zeros((PIXELS, OUT), tl.float32)
        for i in tl.static_range(3):
            for j in tl.static_range(3):
                tap = tl.load(kernel + out * 9 + 3 * i + j, is_out, 0.0).to(tl.float32)
                seen = _seen(pixel, row, left, pixels, high, wide, i, j)
                place = gradient + (pixel + (1 - i) * wide + 1 - j)[:, None] * c_out + out[None, :]
                there = tl.load(place, seen[:, None] & is_out[None, :], 0.0).to(tl.float32)
                of_sums += tap[None, :] * there
                of_kernel += tl.where((slot == 3 * i + j)[:, None], tl.sum(there * sums, 0)[None, :], 0.0)
        of_mix = tl.dot(tl.trans(of_sums.to(rows.dtype)), rows, of_mix, input_precision=PRECISION)
    share = tl.program_id(0)
    tl.store(gradient_mix + (share * c_out + out)[:, None] * c_in + channel[None, :], of_mix, is_weight)
    tl.store(
        gradient_kernel + (share * 9 + slot)[:, None] * c_out + out[None, :], of_kernel,
        (slot < 9)[:, None] & is_out[None, :],
    )  # fmt: skip


@torch.library.custom_op("convbench::weighted_sum", mutates_args=())
def weighted_sum(x: Tensor, mix: Tensor, kernel: Tensor) -> Tensor:
    """Weighted sums of channels, then one 3 x 3 kernel for each output channel, zeros around the image.

    Args:
        x: (N, C_in, H, W); is brought to channels_last.
        mix: (C_out, C_in, 1, 1), of the same dtype as x.
        kernel: (C_out, 1, 3, 3), of the same dtype as x.

    Returns:
        (N, C_out, H, W), channels_last.
    """
    images, c_in, high, wide = x.shape
    c_out = len(mix)
    x, mix, kernel = x.contiguous(memory_format=torch.channels_last), mix.contiguous(), kernel.contiguous()
    y = _empty(x, mix)
    out, rows = _block(c_out), min(8, high)
    grid = (triton.cdiv(images * wide, _PIXELS), triton.cdiv(high, rows), triton.cdiv(c_out, out))
    _forward[grid](
        x, mix, kernel, y, images, high, wide, c_in, c_out, _precision(x), _PIXELS, out, _block(c_in), rows,
        num_stages=1, num_warps=_warps(out), enable_fp_fusion=True,
    )  # fmt: skip
    return y


@weighted_sum.register_fake
def _empty(x: Tensor, mix: Tensor, kernel: Tensor | None = None) -> Tensor:
    shape = (x.shape[0], mix.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.custom_op("convbench::weighted_sum_backward", mutates_args=())
def weighted_sum_backward(gradient: Tensor, x: Tensor, mix: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, mix and kernel, from that of the output, (N, C_out, H, W); in the shapes of `weighted_sum`."""
    images, c_in, high, wide = x.shape
    c_out, pixels = len(mix), images * high * wide
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    x, mix, kernel = x.contiguous(memory_format=torch.channels_last), mix.contiguous(), kernel.contiguous()
    gradient_x = torch.empty_like(x)
    size, precision = (pixels, high, wide, c_in, c_out), _precision(x)
    out, channels = _block(c_out), _block(c_in)
    grid = (triton.cdiv(pixels, _PIXELS), triton.cdiv(c_in, channels))
    _backward_x[grid](
        gradient, mix, kernel, gradient_x, *size, precision, _PIXELS, out, channels,
        num_stages=1, num_warps=_warps(out), enable_fp_fusion=True,
    )  # fmt: skip
    # All input channels are in one block here; the more of them, the fewer outputs and pixels fit beside them.
    every = max(16, triton.next_power_of_2(c_in))
    out, block = max(16, min(out, 8192 // every)), _PIXELS if every <= 64 else 32
    shares = min(_SPLIT, triton.cdiv(pixels, block))
    of_mix = torch.empty((shares, c_out, c_in), dtype=torch.float32, device=x.device)
    of_kernel = torch.empty((shares, 9, c_out), dtype=torch.float32, device=x.device)
    _backward_weights[shares, triton.cdiv(c_out, out)](
        x, gradient, mix, kernel, of_mix, of_kernel, *size, precision, block, out, every,
        num_stages=1, num_warps=8, enable_fp_fusion=True,
    )  # fmt: skip
    return (
        gradient_x,
        of_mix.sum(0).to(mix.dtype).view_as(mix),
        of_kernel.sum(0).T.to(kernel.dtype).reshape(kernel.shape),
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
    """How many channels a program takes at once: a power of two, of 16 at least for Triton's products."""
    return max(16, min(_CHANNELS, triton.next_power_of_2(channels)))


def _warps(out: int) -> int:
    return 4 if out == 16 else 8


def _precision(x: Tensor) -> str:
    """How products of float32 are made: as PyTorch is set to make its own."""
    return "tf32" if x.is_cuda and torch.get_float32_matmul_precision() != "highest" else "ieee"
