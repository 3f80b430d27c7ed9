"""Transposed convolutions from scratch, with the results of `torch.nn.functional.conv_transpose2d`.

A convolution gathers the pixels under its kernel. Its transpose spreads each pixel, times the kernel, over the output:

    y[n, o, i * stride + a * dilation - padding] += x[n, c, i] * weight[c, o, a]     (the other axis likewise)

It computes the gradient of the input of a convolution from the gradient of its output. All functions compute a canvas,
which is the output including the padding, and crop the padding at the end.

All functions take x (N, C_in, H, W), weight (C_in, C_out/groups, K_h, K_w), bias (C_out,) or None, and a
`TransposedGeometry`, and return (N, C_out, H_out, W_out). All of them raise a UserError if the shapes of the arguments
do not agree.

"Unboxing the blackbox: convolutions" (S4), the source of `from_scratch`, leaves transposed convolutions as "a topic for
another day".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.from_scratch import numbers, refuse_long_loops, taps
from convbench.convs.functional import Size, add_bias, as_autocast, insert_zeros, pair
from convbench.convs.shift_matmul import TapSpread, phase_taps, phases_together
from convbench.errors import UserError


class TransposedGeometry(NamedTuple):
    """The geometry of a transposed convolution, in the order of the arguments of `F.conv_transpose2d` after the bias.

    Attributes:
        stride: Distance in output pixels between two input pixels, (height, width).
        padding: Number of rows and columns cropped from each side of the output, (height, width).
        output_padding: Number of additional rows at the bottom and columns on the right, (height, width).
        groups: Number of groups of channels that are convolved separately.
        dilation: Distance between two kernel taps in pixels, (height, width).
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def of(
        cls, stride: Size = 1, padding: Size = 0, output_padding: Size = 0, groups: int = 1, dilation: Size = 1
    ) -> "TransposedGeometry":
        """Create a geometry from numbers or pairs, as `F.conv_transpose2d` accepts them."""
        return cls(pair(stride), pair(padding), pair(output_padding), groups, pair(dilation))

    def output_size(self, size: Sequence[int], kernel_size: Sequence[int]) -> tuple[int, int]:
        """Return the (height, width) of the output for the (height, width) of an image and of a kernel."""
        axes = zip(size, kernel_size, self.stride, self.padding, self.output_padding, self.dilation, strict=True)
        height, width = ((extent - 1) * s - 2 * p + d * (k - 1) + 1 + extra for extent, k, s, p, extra, d in axes)
        return height, width

    def canvas_size(self, x: Tensor, weight: Tensor) -> tuple[int, int]:
        """Return the (height, width) of the output including its padding, for x (N, C_in, H, W).

        Raises:
            UserError: The arguments do not agree; `F.conv_transpose2d` refuses them, too.
        """
        self.check_output_padding()
        if x.dim() != 4 or x.shape[1] != weight.shape[0] or weight.shape[0] % self.groups:
            raise UserError(
                f"an input {tuple(x.shape)} does not match a weight {tuple(weight.shape)} and groups {self.groups}; "
                f"choose an input (N, {weight.shape[0]}, H, W) and groups that divide its channels"
            )
        size = self.output_size(x.shape[2:], weight.shape[2:])
        if min(size) < 1:
            raise UserError(
                f"padding {self.padding} leaves no output for an input {tuple(x.shape)}; choose less padding or larger "
                "images"
            )
        return size[0] + 2 * self.padding[0], size[1] + 2 * self.padding[1]

    def check_output_padding(self) -> None:
        """Check that the output padding is smaller than the stride or the dilation.

        Raises:
            UserError: The output padding is too large.
        """
        axes = zip(self.output_padding, self.stride, self.dilation, strict=True)
        if any(extra >= max(s, d) for extra, s, d in axes):
            raise UserError(
                f"output_padding {self.output_padding} must be smaller than stride {self.stride} or "
                f"dilation {self.dilation}"
            )


PLAIN_TRANSPOSED = TransposedGeometry()  # the defaults of F.conv_transpose2d


def loops(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: TransposedGeometry = PLAIN_TRANSPOSED
) -> Tensor:
    """Spread each pixel with one multiplication at a time, in Python: the definition, for tiny inputs only.

    Raises:
        UserError: The convolution needs more than `from_scratch.LOOPS_LIMIT` multiplications.
    """
    (sh, sw), padding, _, groups, (dh, dw) = geometry
    height, width = geometry.canvas_size(x, weight)
    refuse_long_loops(x, x[:, 0].numel() * weight.numel())
    in_channels, group_channels, kh, kw = weight.shape
    kernels, start = numbers(weight), numbers(weight.new_zeros(group_channels * groups) if bias is None else bias)
    canvases = [weight.flatten()[:0]]  # so that torch.cat works, and gradients flow, for an empty batch
    for image in numbers(x):
        canvas = [[[zero] * width for _ in range(height)] for zero in start]
        for c in range(in_channels):
            first = c // (in_channels // groups) * group_channels  # the first output channel of this group
            for top, line in enumerate(image[c]):
                for left, pixel in enumerate(line):
                    for o in range(group_channels):
                        for i in range(kh):
                            row = canvas[first + o][top * sh + i * dh]
                            for j in range(kw):
                                row[left * sw + j * dw] = row[left * sw + j * dw] + pixel * kernels[c][o][i][j]
        canvases += [torch.stack(row) for channel in canvas for row in channel]
    return _without_padding(torch.cat(canvases).reshape(x.shape[0], len(start), height, width), padding)


def roll(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: TransposedGeometry = PLAIN_TRANSPOSED
) -> Tensor:
    """Place the pixels on the canvas at distance `stride`, and add up copies of it, each rolled by one kernel tap."""
    stride, padding, _, groups, (dh, dw) = geometry
    height, width = geometry.canvas_size(x, weight)
    image = insert_zeros(x, stride)
    image = F.pad(image, (0, width - image.shape[3], 0, height - image.shape[2])).unflatten(1, (groups, -1))
    kernels = weight.unflatten(0, (groups, -1))
    y = None
    for i, j in taps(weight):
        copy = torch.roll(image, (i * dh, j * dw), (3, 4))  # the canvas is large enough that only zeros wrap around
        part = torch.einsum("ngchw,gco->ngohw", copy, kernels[..., i, j])
        y = part if y is None else y + part
    assert y is not None  # a kernel has at least one tap
    return add_bias(_without_padding(y.flatten(1, 2), padding), bias)


def shift_matmul(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: TransposedGeometry = PLAIN_TRANSPOSED
) -> Tensor:
    """Add one matrix product for each kernel tap into a shifted view of the canvas.

    This is the adjoint of `convs.shift_matmul`: each tap writes into one phase of the canvas, and the phases are
    interleaved at the end. The zeros between the pixels are neither multiplied nor stored.

    Returns:
        The output, shape (N, C_out, H_out, W_out), channels_last in memory. Half precision is accumulated in half
        precision.
    """
    (sh, sw), padding, _, groups, dilation = geometry
    height, width = geometry.canvas_size(x, weight)
    lines, pixels = -(-height // sh), -(-width // sw)  # size of a phase, rounded up
    x, weight = as_autocast(x, weight)
    image = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, pixels - x.shape[3], 0, lines - x.shape[2]))
    rows = image.flatten(0, 2).unflatten(1, (groups, -1)).transpose(0, 1)  # (G, rows, C_in/G)
    kernels = weight.unflatten(0, (groups, -1)).permute(3, 4, 0, 1, 2).flatten(0, 1)  # (taps, G, C_in/G, C_out/G)
    biases = None if bias is None else bias.to(x.dtype).reshape(groups, 1, -1)
    y = TapSpread.apply(rows, kernels, biases, phase_taps(weight, geometry.stride, dilation, pixels), sh * sw)
    canvas = phases_together(y.unflatten(2, (x.shape[0], lines, pixels)).unflatten(0, (sh, sw)))
    return _without_padding(canvas[:, :, :height, :width], padding)


def im2col(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: TransposedGeometry = PLAIN_TRANSPOSED
) -> Tensor:
    """Compute one matrix product whose columns are patches of the canvas, and add up overlapping patches (col2im)."""
    (sh, sw), padding, _, groups, (dh, dw) = geometry
    height, width = geometry.canvas_size(x, weight)
    kernels = weight.flatten(1).unflatten(0, (groups, -1))  # (G, C_in/G, C_out/G * taps)
    columns = kernels.mT @ x.flatten(2).unflatten(1, (groups, -1))
    patches = columns.flatten(1, 2).unflatten(2, x.shape[2:]).unflatten(1, (-1, weight.shape[2:].numel()))
    span_h, span_w = (x.shape[2] - 1) * sh + 1, (x.shape[3] - 1) * sw + 1  # from the first to the last pixel of one tap
    canvas = columns.new_zeros(x.shape[0], patches.shape[1], height, width)
    for (i, j), patch in zip(taps(weight), patches.unbind(2), strict=True):
        canvas[:, :, i * dh : i * dh + span_h : sh, j * dw : j * dw + span_w : sw] += patch
    return add_bias(_without_padding(canvas, padding), bias)


def fft(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: TransposedGeometry = PLAIN_TRANSPOSED
) -> Tensor:
    """Multiply in the frequency domain.

    Half precision is computed in float32, because few devices support the FFT in half precision.
    """
    stride, padding, _, groups, dilation = geometry
    dtype = x.dtype
    if dtype in (torch.half, torch.bfloat16):
        x, weight = x.float(), weight.float()
    size = geometry.canvas_size(x, weight)
    image = torch.fft.rfft2(insert_zeros(x, stride), size).unflatten(1, (groups, -1))
    # Without the complex conjugate of `from_scratch.fft`, the product is a convolution in the mathematical sense.
    kernels = torch.fft.rfft2(insert_zeros(weight, dilation), size).unflatten(0, (groups, -1))
    canvas = torch.fft.irfft2(torch.einsum("ngchw,gcohw->ngohw", image, kernels), size).flatten(1, 2)
    return add_bias(_without_padding(canvas, padding).to(dtype), bias)


class FromScratchConvTranspose2d(Conv2dBase):
    """A transposed convolution that is computed by one of the functions of this module.

    The constructor takes the arguments of `nn.ConvTranspose2d`. Parameters have the names, shapes and initial values of
    those of `nn.ConvTranspose2d`, so that either class loads the `state_dict` of the other.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "from_scratch_transposed"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "loops": loops,
        "roll": roll,
        "shift_matmul": shift_matmul,
        "im2col": im2col,
        "fft": fft,
    }
    reference_implementation: ClassVar[str] = "im2col"
    padding: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str = "shift_matmul",
    ) -> None:
        if padding_mode != "zeros":
            raise UserError(f"{self.name} got padding_mode {padding_mode!r}; only zeros is supported")
        if isinstance(padding, str):
            raise UserError(f"{self.name} got padding {padding!r}; choose one whole number or two")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            device, dtype, implementation=implementation,
        )  # fmt: skip
        self.output_padding = self._checked_pair("output_padding", output_padding, least=0)
        self._transposed = TransposedGeometry(
            self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
        self._transposed.check_output_padding()
        self.weight = self._parameter(self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters as `nn.ConvTranspose2d` does."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Compute the transposed convolution of (N, C_in, H, W); the output is (N, C_out, H_out, W_out).

        Args:
            x: (N, C_in, H, W).
            output_size: Size (H_out, W_out), or whole shape, of the output. It overrides `output_padding`.

        Raises:
            UserError: No output padding gives this output size.
        """
        geometry = self._transposed
        if output_size is not None:
            geometry = geometry._replace(output_padding=self._output_padding(x, output_size))
        return self._function(x, self.weight, self.bias, geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `Conv2dBase` does, and add the output padding."""
        extra = f", output_padding={self.output_padding}" if self.output_padding != (0, 0) else ""
        return super().extra_repr() + extra

    def _output_padding(self, x: Tensor, output_size: Sequence[int]) -> tuple[int, int]:
        """Return the output padding (height, width) that gives the requested output size."""
        size = tuple(output_size)[2:] if len(output_size) == x.dim() else tuple(output_size)
        smallest = self._transposed._replace(output_padding=(0, 0)).output_size(x.shape[2:], self.kernel_size)
        if len(size) != 2 or any(not 0 <= w - n < s for w, n, s in zip(size, smallest, self.stride, strict=True)):
            largest = tuple(n + s - 1 for n, s in zip(smallest, self.stride, strict=True))
            raise UserError(
                f"{self.name} got output_size {tuple(output_size)} for an input {tuple(x.shape)}; choose a (height, "
                f"width) from {smallest} to {largest}"
            )
        return size[0] - smallest[0], size[1] - smallest[1]


def _without_padding(canvas: Tensor, padding: tuple[int, int]) -> Tensor:
    ph, pw = padding
    return canvas[:, :, ph : canvas.shape[2] - ph, pw : canvas.shape[3] - pw]
