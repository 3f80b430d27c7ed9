"""Convolutions written from scratch, with the results of `torch.nn.functional.conv2d`.

Source: "Unboxing the blackbox: convolutions" (S4), which has the loops, the shifted copies and the shifted matrix
products, without stride; here each takes every stride, padding, dilation and groups.

All functions take x (N, C_in, H, W), weight (C_out, C_in/groups, K_h, K_w), bias (C_out,) or none, and a `Geometry`,
and give (N, C_out, H_out, W_out). What does not go together is a UserError in all of them.
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
    """Convolve one number at a time, in Python: the definition, for tiny inputs only.

    Raises:
        UserError: It would take more than `LOOPS_LIMIT` multiplications.
    """
    (sh, sw), _, (dh, dw), groups = geometry
    out_channels, group_channels, kh, kw = weight.shape
    out_high, out_wide = geometry.checked_output_size(x, weight)
    refuse_long_loops(x, x.shape[0] * out_high * out_wide * weight.numel())
    outputs = [weight.flatten()[:0]]  # an empty batch has an output too, and a gradient
    kernels, biases = numbers(weight), None if bias is None else numbers(bias)
    for image in numbers(pad(x, geometry.padding)):
        for o in range(out_channels):
            first = o // (out_channels // groups) * group_channels  # the first input channel of this group
            for top in range(0, out_high * sh, sh):
                for left in range(0, out_wide * sw, sw):
                    total = weight.new_zeros(()) if biases is None else biases[o]
                    for c in range(group_channels):
                        for i in range(kh):
                            for j in range(kw):
                                pixel = image[first + c][top + i * dh][left + j * dw]
                                total = total + pixel * kernels[o][c][i][j]
                    outputs.append(total.reshape(1))
    return torch.cat(outputs).reshape(x.shape[0], out_channels, out_high, out_wide)


def roll(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Add up copies of the image, each rolled so that one kernel tap lies over the output pixel."""
    (sh, sw), padding, (dh, dw), groups = geometry
    out_high, out_wide = geometry.checked_output_size(x, weight)
    image = pad(x, padding).unflatten(1, (groups, -1))
    kernels = weight.unflatten(0, (groups, -1))
    y = None
    for i, j in taps(weight):
        # What wraps around the edge lies outside of the part that is kept.
        copy = torch.roll(image, (-i * dh, -j * dw), (3, 4))[..., : out_high * sh : sh, : out_wide * sw : sw]
        part = torch.einsum("ngchw,goc->ngohw", copy, kernels[..., i, j])
        y = part if y is None else y + part
    assert y is not None  # a kernel has a tap
    return add_bias(y.flatten(1, 2), bias)


def im2col(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Lay the patches of the image out as columns and take one matrix product."""
    (sh, sw), padding, (dh, dw), groups = geometry
    out_high, out_wide = geometry.checked_output_size(x, weight)
    x = pad(x, padding).contiguous()
    high, wide = (out_high - 1) * sh + 1, (out_wide - 1) * sw + 1  # from the first output's pixel to the last one's
    shifted = [
        x[:, :, top : top + high : sh, left : left + wide : sw]
        for top, left in ((i * dh, j * dw) for i, j in taps(weight))
    ]
    columns = torch.stack(shifted, 2).flatten(3).unflatten(1, (groups, -1)).flatten(2, 3)  # (N, G, C_in/G * taps, L)
    y = weight.flatten(1).unflatten(0, (groups, -1)) @ columns
    return add_bias(y.flatten(1, 2).unflatten(2, (out_high, out_wide)), bias)


def fft(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = PLAIN) -> Tensor:
    """Multiply in the frequency domain; half precision is computed in float32, as few devices have its transform."""
    (sh, sw), padding, dilation, groups = geometry
    dtype = x.dtype
    if dtype in (torch.half, torch.bfloat16):
        x, weight = x.float(), weight.float()
    out_high, out_wide = geometry.checked_output_size(x, weight)
    x = pad(x, padding)
    size = x.shape[2:]
    # The conjugate makes it a correlation, which is what is called convolution here. It wraps around the edges of the
    # padded image, but only in outputs that are cut away.
    kernels = torch.fft.rfft2(insert_zeros(weight, dilation), size).conj().unflatten(0, (groups, -1))
    image = torch.fft.rfft2(x).unflatten(1, (groups, -1))
    y = torch.fft.irfft2(torch.einsum("ngchw,gochw->ngohw", image, kernels), size).flatten(1, 2)
    return add_bias(y[:, :, : out_high * sh : sh, : out_wide * sw : sw].to(dtype), bias)


class FromScratchConv2d(StandardConv2d):
    """A standard convolution that is computed by one of this module's functions.

    Parameters, their names, shapes and initial values are those of `nn.Conv2d`: a `state_dict` moves both ways.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
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
    """See that a loop in Python ends before a person gives up.

    Raises:
        UserError: It would take more than `LOOPS_LIMIT` multiplications.
    """
    if products > LOOPS_LIMIT:
        raise UserError(
            f"loops would take {products:,} multiplications on an input {tuple(x.shape)}, but only {LOOPS_LIMIT:,} are "
            "allowed; choose roll, shift_matmul, im2col or fft (conv.implementation)"
        )


def numbers(tensor: Tensor) -> Any:
    """Take a tensor apart into nested lists of 0-d tensors, through which gradients flow."""
    return [numbers(part) for part in tensor.unbind()] if tensor.dim() else tensor


def pad(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Put zeros around an image."""
    high, wide = padding
    return F.pad(x, (wide, wide, high, high)) if high or wide else x


def taps(weight: Tensor) -> Iterator[tuple[int, int]]:
    """Go through the positions of a kernel, line by line."""
    return ((i, j) for i in range(weight.shape[2]) for j in range(weight.shape[3]))
