"""The partial convolution: its cost, its unchanged channels, and the layers that it refuses."""

from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.partial import PartialConv2d
from tests.convs.macs import macs


def test_its_spatial_part_has_a_sixteenth_of_the_multiplications() -> None:
    conv = PartialConv2d(16, 32, 3, padding=1, bias=False)
    assert macs(conv) == 64 * (16 * 16 * 9 // 16 + 16 * 32)


def test_the_other_channels_reach_the_weighted_sums_unchanged() -> None:
    conv = PartialConv2d(8, 8, 3, padding=1, bias=False)
    conv.pointwise_weight.data = torch.eye(8).view(8, 8, 1, 1)
    x = torch.randn(2, 8, 5, 5)
    y = conv(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert not torch.equal(y[:, :2], x[:, :2])


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "grouped"),
        ({"kernel_size": 1, "padding": 0}, "1x1"),
        ({"stride": 2}, "stride 1"),
        ({"padding": 0}, "padding"),
        ({"padding": "valid"}, "padding"),
        ({"in_channels": 3}, r"at least 4 .*channels \(conv.ratio\)"),
    ],
)
def test_unsupported_layers_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^partial .*{reason}"):
        PartialConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, **layer})
