"""The large-kernel convolution: its receptive field, the size of its output, and its cost."""

from typing import Any

import pytest
import torch
from torch import nn

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.large_kernel import LargeKernelConv2d
from tests.convs.macs import macs


@pytest.mark.parametrize(
    "layer",
    [
        {"padding": 1},
        {"padding": 0},
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": 1, "stride": 2},
        {"padding": 2, "dilation": 2},
    ],
)
def test_the_output_has_the_size_for_the_original_kernel(layer: dict[str, Any]) -> None:
    x = torch.randn(1, 4, 15, 18)
    assert LargeKernelConv2d(4, 6, 3, **layer)(x).shape == nn.Conv2d(4, 6, 3, **layer)(x).shape


def test_the_receptive_field_of_an_output_is_the_large_kernel() -> None:
    conv = LargeKernelConv2d(1, 1, 3, padding=1, large_kernel=9, bias=False)
    x = torch.randn(1, 1, 21, 21, requires_grad=True)
    conv(x)[0, 0, 10, 10].backward()
    positions = x.grad[0, 0].nonzero()
    assert (positions.min().item(), positions.max().item()) == (6, 14)
    assert conv.kernel_size == (9, 9)


def test_it_has_the_operations_of_one_large_kernel_for_each_input_channel() -> None:
    assert macs(LargeKernelConv2d(16, 32, 3, padding=1)) == 64 * (16 * 49 + 16 * 32)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "grouped"),
        ({"kernel_size": 1}, "1x1"),
        ({"kernel_size": 9}, r"odd .*at most 7 \(conv.large_kernel\)"),
        ({"kernel_size": 2}, r"odd .*at most 7 \(conv.large_kernel\)"),
    ],
)
def test_unsupported_layers_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^large_kernel .*{reason}"):
        LargeKernelConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, **layer})
