"""BSConv-S: the width of its subspace and the term that keeps it orthonormal."""

import re
from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.blueprint_s import BlueprintSConv2d
from convbench.errors import UserError
from tests.convs.macs import macs


@pytest.mark.parametrize(("in_channels", "hidden"), [(3, 3), (8, 4), (16, 4), (18, 5), (64, 16)])
def test_the_subspace_has_a_quarter_of_the_channels_but_at_least_four_and_at_most_all(
    in_channels: int, hidden: int
) -> None:
    conv = BlueprintSConv2d(in_channels, 32, 3, padding=1, bias=False)
    assert conv.squeeze_weight.shape == (hidden, in_channels, 1, 1)
    assert macs(conv) == 64 * (in_channels * hidden + hidden * 32 + 32 * 9)


def test_the_auxiliary_loss_is_zero_for_orthonormal_rows_and_their_distance_from_it_otherwise() -> None:
    conv = BlueprintSConv2d(16, 16, 3, orthonormality=0.5)
    torch.nn.init.orthogonal_(conv.squeeze_weight.data.view(4, 16))
    assert conv.auxiliary_loss().item() == pytest.approx(0, abs=1e-5)
    conv.squeeze_weight.data *= 3**0.5  # rows of squared length 3: 2 too much in each of four diagonal places
    assert conv.auxiliary_loss().item() == pytest.approx(0.5 * (4 * 2**2) ** 0.5, rel=1e-5)
    assert conv.auxiliary_loss().requires_grad
    assert BlueprintSConv2d(16, 16, 3, orthonormality=0.0).auxiliary_loss() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.0}, "blueprint_s got ratio 0.0; choose a number above 0 and at most 1 (conv.ratio)"),
        ({"least_hidden": 0}, "blueprint_s got least_hidden 0; choose a whole number of at least 1"),
        ({"orthonormality": -1}, "blueprint_s got orthonormality -1; choose a number of at least 0"),
    ],
)
def test_a_wrong_argument_is_told_its_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        BlueprintSConv2d(8, 8, 3, **arguments)


def test_grouped_layers_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="blueprint_s takes no grouped layers"):
        BlueprintSConv2d(8, 8, 3, groups=2)
