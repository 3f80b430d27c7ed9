"""The partial convolution: what it costs, what it leaves alone, what it refuses."""

from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.partial import PartialConv2d
from tests.convs.macs import macs


def test_its_spatial_part_does_a_sixteenth_of_the_multiplications() -> None:
    conv = PartialConv2d(16, 32, 3, padding=1, bias=False)
    assert macs(conv) == 64 * (16 * 16 * 9 // 16 + 16 * 32)


def test_the_other_channels_pass_untouched_but_for_the_weighted_sums() -> None:
    conv = PartialConv2d(8, 8, 3, padding=1, bias=False)
    conv.pointwise_weight.data = torch.eye(8).view(8, 8, 1, 1)
    x = torch.randn(2, 8, 5, 5)
    y = conv(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert not torch.equal(y[:, :2], x[:, :2])


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "takes no grouped layers"),
        ({"kernel_size": 1, "padding": 0}, "takes no 1x1 kernels"),
        ({"stride": 2}, "needs stride 1"),
        ({"padding": 0}, "needs padding that keeps the size"),
        ({"padding": "valid"}, "needs padding that keeps the size"),
        ({"in_channels": 3}, r"takes no fewer than 4 channels \(conv.ratio\)"),
    ],
)
def test_layers_that_it_cannot_take_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^partial {reason}$"):
        PartialConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **layer})
