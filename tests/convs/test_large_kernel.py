"""The large kernel: how far it sees, and the sizes it keeps."""

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
def test_the_output_has_the_size_that_the_small_kernel_would_give(layer: dict[str, Any]) -> None:
    x = torch.randn(1, 4, 15, 18)
    assert LargeKernelConv2d(4, 6, 3, **layer)(x).shape == nn.Conv2d(4, 6, 3, **layer)(x).shape


def test_an_output_sees_as_far_as_the_large_kernel_reaches() -> None:
    conv = LargeKernelConv2d(1, 1, 3, padding=1, large_kernel=9, bias=False)
    x = torch.randn(1, 1, 21, 21, requires_grad=True)
    conv(x)[0, 0, 10, 10].backward()
    seen = x.grad[0, 0].nonzero()
    assert (seen.min().item(), seen.max().item()) == (6, 14)
    assert conv.kernel_size == (9, 9)


def test_it_costs_one_large_kernel_for_each_input() -> None:
    assert macs(LargeKernelConv2d(16, 32, 3, padding=1)) == 64 * (16 * 49 + 16 * 32)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "takes no grouped layers"),
        ({"kernel_size": 1}, "takes no 1x1 kernels"),
        ({"kernel_size": 9}, "takes kernels of at most 7, and odd"),
        ({"kernel_size": 2}, "takes kernels of at most 7, and odd"),
    ],
)
def test_layers_that_it_cannot_take_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^large_kernel {reason}"):
        LargeKernelConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, **layer})
