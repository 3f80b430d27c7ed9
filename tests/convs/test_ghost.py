"""Ghost: how many maps are real, and what the others are made of."""

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.ghost import GhostConv2d
from convbench.errors import UserError
from tests.convs.macs import macs


def test_half_of_the_maps_are_computed_and_the_others_made_from_them() -> None:
    conv = GhostConv2d(16, 32, 3, padding=1, bias=False)
    assert macs(conv) == 64 * (16 * 16 * 9 + 16 * 9)
    conv.cheap_weight.data.zero_()
    conv.cheap_weight.data[:, 0, 1, 1] = 1  # ghosts that are copies
    y = conv(torch.randn(2, 16, 8, 8))
    torch.testing.assert_close(y[:, 16:], y[:, :16])


@pytest.mark.parametrize(("out_channels", "ratio", "intrinsic"), [(7, 2, 4), (8, 3, 3), (8, 8, 1), (2, 4, 1)])
def test_every_output_is_either_intrinsic_or_a_ghost(out_channels: int, ratio: int, intrinsic: int) -> None:
    conv = GhostConv2d(4, out_channels, 3, ratio=ratio)
    assert (len(conv.primary_weight), len(conv.cheap_weight)) == (intrinsic, out_channels - intrinsic)
    assert conv(torch.randn(1, 4, 5, 5)).shape == (1, out_channels, 3, 3)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="ghost takes no grouped layers"):
        GhostConv2d(8, 8, 3, groups=2)
    with pytest.raises(UnsupportedLayerError, match="ghost takes no single output channels"):
        GhostConv2d(8, 1, 3)
    with pytest.raises(UserError, match=r"ghost got cheap_kernel 2; choose an odd number \(conv.cheap_kernel\)"):
        GhostConv2d(8, 8, 3, cheap_kernel=2)
    with pytest.raises(UserError, match=r"ghost got ratio 1; choose a whole number of at least 2 \(conv.ratio\)"):
        GhostConv2d(8, 8, 3, ratio=1)
