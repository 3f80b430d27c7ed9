"""The levels of the pyramidal convolution."""

from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.pyramidal import PyramidalConv2d
from convbench.errors import UserError
from tests.convs.macs import macs


def test_each_level_has_a_larger_kernel_and_more_groups() -> None:
    conv = PyramidalConv2d(16, 32, 3, padding=1, level_groups=[1, 4, 8, 8])
    shapes = [tuple(weight.shape) for weight in conv.weights]
    assert shapes == [(8, 16, 3, 3), (8, 4, 5, 5), (8, 2, 7, 7), (8, 2, 9, 9)]
    assert macs(conv) == 64 * sum(weight.numel() for weight in conv.weights)


def test_the_first_level_equals_a_standard_convolution_with_the_original_kernel_size() -> None:
    conv = PyramidalConv2d(4, 8, 3, padding=1)
    x = torch.randn(1, 4, 6, 6)
    wanted = torch.nn.functional.conv2d(x, conv.weights[0], conv.bias[:4], padding=1)
    for implementation in conv.implementations:
        conv.use(implementation)
        torch.testing.assert_close(conv(x)[:, :4], wanted)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "grouped"),
        ({"kernel_size": 1}, "1x1"),
        ({"in_channels": 3}, r"3 input .*\[1, 4\] groups \(conv.level_groups\)"),
        ({"out_channels": 1}, r"1 output .*\[1, 4\] groups \(conv.level_groups\)"),
    ],
)
def test_unsupported_layers_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^pyramidal .*{reason}"):
        PyramidalConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, **layer})


def test_the_error_for_wrong_levels_has_the_key() -> None:
    with pytest.raises(UserError, match=r"pyramidal .*\(conv.level_groups\)"):
        PyramidalConv2d(8, 8, 3, level_groups=[])
    with pytest.raises(UserError, match=r"pyramidal .*level_groups 0; .*at least 1 \(conv.level_groups\)"):
        PyramidalConv2d(8, 8, 3, level_groups=[1, 0])
