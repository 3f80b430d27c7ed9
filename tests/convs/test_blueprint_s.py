"""BSConv-S: the dimension of its subspace and the orthonormality loss."""

from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.blueprint_s import BlueprintSConv2d
from convbench.errors import UserError
from tests.convs.macs import macs


@pytest.mark.parametrize(("in_channels", "hidden"), [(3, 3), (8, 4), (16, 4), (18, 5), (64, 16)])
def test_the_subspace_has_a_quarter_of_the_channels_but_at_least_four_and_at_most_all_of_them(
    in_channels: int, hidden: int
) -> None:
    conv = BlueprintSConv2d(in_channels, 32, 3, padding=1, bias=False)
    assert conv.squeeze_weight.shape == (hidden, in_channels, 1, 1)
    assert macs(conv) == 64 * (in_channels * hidden + hidden * 32 + 32 * 9)


def test_the_auxiliary_loss_is_the_weighted_distance_from_orthonormality() -> None:
    conv = BlueprintSConv2d(16, 16, 3, orthonormality=0.5)
    torch.nn.init.orthogonal_(conv.squeeze_weight.data.view(4, 16))
    assert conv.auxiliary_loss().item() == pytest.approx(0, abs=1e-5)
    conv.squeeze_weight.data *= 3**0.5  # rows of squared norm 3: each of the four diagonal elements is too large by 2
    assert conv.auxiliary_loss().item() == pytest.approx(0.5 * (4 * 2**2) ** 0.5, rel=1e-5)
    assert conv.auxiliary_loss().requires_grad
    assert BlueprintSConv2d(16, 16, 3, orthonormality=0.0).auxiliary_loss() is None


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"ratio": 0.0}, r"blueprint_s .*ratio 0.0; .*above 0 .*at most 1 \(conv.ratio\)"),
        ({"least_hidden": 0}, r"blueprint_s .*least_hidden 0; .*at least 1 \(conv.least_hidden\)"),
        ({"orthonormality": -1}, r"blueprint_s .*orthonormality -1; .*at least 0 \(conv.orthonormality\)"),
    ],
)
def test_the_error_for_a_wrong_argument_has_the_value_the_range_and_the_key(
    arguments: dict[str, Any], facts: str
) -> None:
    with pytest.raises(UserError, match=facts):
        BlueprintSConv2d(8, 8, 3, **arguments)


def test_grouped_layers_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"blueprint_s .*grouped"):
        BlueprintSConv2d(8, 8, 3, groups=2)
