"""The pyramidal convolution: its levels."""

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


def test_outputs_of_the_first_level_see_what_the_layers_own_kernel_would() -> None:
    conv = PyramidalConv2d(4, 8, 3, padding=1)
    x = torch.randn(1, 4, 6, 6)
    wanted = torch.nn.functional.conv2d(x, conv.weights[0], conv.bias[:4], padding=1)
    for implementation in conv.implementations:
        conv.use(implementation)
        torch.testing.assert_close(conv(x)[:, :4], wanted)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "takes no grouped layers"),
        ({"kernel_size": 1}, "takes no 1x1 kernels"),
        ({"in_channels": 3}, r"cannot split its channels into groups of \[1, 4\] \(conv.level_groups\)"),
        ({"out_channels": 1}, r"cannot split its channels into groups of \[1, 4\] \(conv.level_groups\)"),
    ],
)
def test_layers_that_it_cannot_take_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^pyramidal {reason}$"):
        PyramidalConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, **layer})


def test_levels_are_told_their_key() -> None:
    with pytest.raises(UserError, match=r"pyramidal got no level_groups; choose .* \(conv.level_groups\)"):
        PyramidalConv2d(8, 8, 3, level_groups=[])
    with pytest.raises(
        UserError, match=r"pyramidal got level_groups 0; choose a whole number .* \(conv.level_groups\)"
    ):
        PyramidalConv2d(8, 8, 3, level_groups=[1, 0])
