"""Convolutions written from scratch, with the results of `torch.nn.functional.conv2d`.

Source: "Unboxing the blackbox: convolutions" (S4), which has the loops, the shifted copies and the shifted matrix
products, without stride. Here all functions support every stride, padding, dilation and number of groups.

All functions take x (N, C_in, H, W), weight (C_out, C_in/groups, K_h, K_w), bias (C_out,) or None, and a `Geometry`,
and return (N, C_out, H_out, W_out). All of them raise a UserError if the shapes of the arguments do not agree.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.from_scratch_fused import fused, why_not
from convbench.convs.functional import PLAIN, Geometry, add_bias, insert_zeros
from convbench.convs.shift_matmul import shift_matmul
from convbench.convs.standard import StandardConv2d
from convbench.errors import UserError

LOOPS_LIMIT = 200_000  # multiplications; about two seconds


def loops(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Convolve with one multiplication at a time, in Python: the definition, for tiny inputs only.

    Raises:
        UserError: The convolution needs more than `LOOPS_LIMIT` multiplications.
    """
    (sh, sw), _, (dh, dw), groups = geometry
    out_channels, group_channels, kh, kw = weight.shape
    out_height, out_width = geometry.checked_output_size(x, weight)
    refuse_long_loops(x, x.shape[0] * out_height * out_width * weight.numel())
    outputs = [weight.flatten()[:0]]  # so that torch.cat works, and gradients flow, for an empty batch
    kernels, biases = numbers(weight), None if bias is None else numbers(bias)
    for image in numbers(pad(x, geometry.padding)):
        for o in range(out_channels):
            first = o // (out_channels // groups) * group_channels  # the first input channel of this group
            for top in range(0, out_height * sh, sh):
                for left in range(0, out_width * sw, sw):
                    total = weight.new_zeros(()) if biases is None else biases[o]
                    for c in range(group_channels):
                        for i in range(kh):
                            for j in range(kw):
                                pixel = image[first + c][top + i * dh][left + j * dw]
                                total = total + pixel * kernels[o][c][i][j]
                    outputs.append(total.reshape(1))
    return torch.cat(outputs).reshape(x.shape[0], out_channels, out_height, out_width)


def roll(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Add up copies of the image, each rolled so that the pixel under one kernel tap is at the output position."""
    (sh, sw), padding, (dh, dw), groups = geometry
    out_height, out_width = geometry.checked_output_size(x, weight)
    image = pad(x, padding).unflatten(1, (groups, -1))
    kernels = weight.unflatten(0, (groups, -1))
    y = None
    for i, j in taps(weight):
        # Pixels that wrap around the edge are outside of the slice.
        copy = torch.roll(image, (-i * dh, -j * dw), (3, 4))[..., : out_height * sh : sh, : out_width * sw : sw]
        part = torch.einsum("ngchw,goc->ngohw", copy, kernels[..., i, j])
        y = part if y is None else y + part
    assert y is not None  # a kernel has at least one tap
    return add_bias(y.flatten(1, 2), bias)


def im2col(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Unfold the patches of the image into the columns of a matrix, and compute one matrix product."""
    (sh, sw), padding, (dh, dw), groups = geometry
    out_height, out_width = geometry.checked_output_size(x, weight)
    x = pad(x, padding).contiguous()
    span_h, span_w = (out_height - 1) * sh + 1, (out_width - 1) * sw + 1  # from the first to the last pixel of one tap
    shifted = [
        x[:, :, top : top + span_h : sh, left : left + span_w : sw]
        for top, left in ((i * dh, j * dw) for i, j in taps(weight))
    ]
    columns = torch.stack(shifted, 2).flatten(3).unflatten(1, (groups, -1)).flatten(2, 3)  # (N, G, C_in/G * taps, L)
    y = weight.flatten(1).unflatten(0, (groups, -1)) @ columns
    return add_bias(y.flatten(1, 2).unflatten(2, (out_height, out_width)), bias)


def fft(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Multiply in the frequency domain.

    Half precision is computed in float32, because few devices support the FFT in half precision.
    """
    (sh, sw), padding, dilation, groups = geometry
    dtype = x.dtype
    if dtype in (torch.half, torch.bfloat16):
        x, weight = x.float(), weight.float()
    out_height, out_width = geometry.checked_output_size(x, weight)
    x = pad(x, padding)
    size = x.shape[2:]
    # The complex conjugate gives a cross-correlation, which deep learning calls convolution. The FFT makes it circular,
    # but the outputs that wrap around the edges of the padded image are removed.
    kernels = torch.fft.rfft2(insert_zeros(weight, dilation), size).conj().unflatten(0, (groups, -1))
    image = torch.fft.rfft2(x).unflatten(1, (groups, -1))
    y = torch.fft.irfft2(torch.einsum("ngchw,gochw->ngohw", image, kernels), size).flatten(1, 2)
    return add_bias(y[:, :, : out_height * sh : sh, : out_width * sw : sw].to(dtype), bias)


class FromScratchConv2d(StandardConv2d):
    """A standard convolution that is computed by one of the functions of this module.

    Parameters have the names, shapes and initial values of those of `nn.Conv2d`, so that either class loads the
    `state_dict` of the other.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "from_scratch"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "loops": loops,
        "roll": roll,
        "shift_matmul": shift_matmul,
        "im2col": im2col,
        "fft": fft,
        "fused": fused,
    }
    limits: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {"fused": why_not}
    reference_implementation: ClassVar[str] = "im2col"

    def __init__(self, *conv2d: Any, implementation: str = "shift_matmul", **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)


def refuse_long_loops(x: Tensor, products: int) -> None:
    """Check that a convolution by Python loops finishes in a few seconds.

    Args:
        x: Input, for the error message.
        products: Number of multiplications.

    Raises:
        UserError: The convolution needs more than `LOOPS_LIMIT` multiplications.
    """
    if products > LOOPS_LIMIT:
        raise UserError(
            f"loops needs {products:,} multiplications for an input {tuple(x.shape)}, but only {LOOPS_LIMIT:,} are "
            "allowed; choose roll, shift_matmul, im2col or fft (conv.implementation)"
        )


def numbers(tensor: Tensor) -> Any:
    """Convert a tensor to nested lists of 0-d tensors, which keep the autograd graph, unlike `Tensor.tolist`."""
    return [numbers(part) for part in tensor.unbind()] if tensor.dim() else tensor


def pad(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Pad an image with zeros."""
    height, width = padding
    return F.pad(x, (width, width, height, height)) if height or width else x


def taps(weight: Tensor) -> Iterator[tuple[int, int]]:
    """Yield the positions (i, j) of the taps of a kernel, row by row."""
    return ((i, j) for i in range(weight.shape[2]) for j in range(weight.shape[3]))
