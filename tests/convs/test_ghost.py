"""The ghost convolution: the intrinsic maps and the ghost maps."""

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.ghost import GhostConv2d
from convbench.errors import UserError
from tests.convs.macs import macs


def test_half_of_the_maps_are_intrinsic_and_the_others_are_computed_from_them() -> None:
    conv = GhostConv2d(16, 32, 3, padding=1, bias=False)
    assert macs(conv) == 64 * (16 * 16 * 9 + 16 * 9)
    conv.cheap_weight.data.zero_()
    conv.cheap_weight.data[:, 0, 1, 1] = 1  # identity kernels
    y = conv(torch.randn(2, 16, 8, 8))
    torch.testing.assert_close(y[:, 16:], y[:, :16])


@pytest.mark.parametrize(("out_channels", "ratio", "intrinsic"), [(7, 2, 4), (8, 3, 3), (8, 8, 1), (2, 4, 1)])
def test_every_output_is_either_intrinsic_or_a_ghost(out_channels: int, ratio: int, intrinsic: int) -> None:
    conv = GhostConv2d(4, out_channels, 3, ratio=ratio)
    assert (len(conv.primary_weight), len(conv.cheap_weight)) == (intrinsic, out_channels - intrinsic)
    assert conv(torch.randn(1, 4, 5, 5)).shape == (1, out_channels, 3, 3)


def test_unsupported_layers_and_wrong_arguments_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"ghost .*grouped"):
        GhostConv2d(8, 8, 3, groups=2)
    with pytest.raises(UnsupportedLayerError, match=r"ghost .*at least 2 output channels"):
        GhostConv2d(8, 1, 3)
    with pytest.raises(UserError, match=r"ghost .*cheap_kernel 2; .*odd .*\(conv.cheap_kernel\)"):
        GhostConv2d(8, 8, 3, cheap_kernel=2)
    with pytest.raises(UserError, match=r"ghost .*ratio 1; .*at least 2 \(conv.ratio\)"):
        GhostConv2d(8, 8, 3, ratio=1)
