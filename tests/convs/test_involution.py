"""Involution: kernels that differ from pixel to pixel."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.functional import Geometry
from convbench.convs.involution import Involution2d


def test_with_the_same_kernel_for_all_pixels_it_equals_a_depthwise_convolution() -> None:
    conv = Involution2d(32, 32, 3, padding=1, bias=False)  # two groups of 16 channels
    conv.span_weight.data.zero_()
    x = torch.randn(2, 32, 5, 6)
    kernels = conv.span_bias.view(2, 1, 3, 3).repeat_interleave(16, 0)
    torch.testing.assert_close(conv(x), functional.conv2d(x, kernels, padding=1, groups=32))


def test_a_kernel_depends_only_on_the_pixel_at_its_centre() -> None:
    conv = Involution2d(16, 16, 3, padding=1, reduction=1)
    x = torch.randn(1, 16, 7, 7)
    kernels = conv._kernels(x)
    x[0, :, 3, 3] += 5
    changed = (conv._kernels(x) != kernels).any(1)[0]
    assert changed.nonzero().tolist() == [[3, 3]]


def test_with_stride_2_kernels_are_computed_from_averages_of_four_pixels() -> None:
    conv = Involution2d(8, 8, 3, stride=2, padding=1)
    x = torch.randn(2, 8, 6, 8)
    kernels = conv._kernels(functional.avg_pool2d(x, 2)).unflatten(1, (1, 9))
    wanted = conv._function(x, kernels, (3, 3), Geometry(stride=(2, 2), padding=(1, 1))) + conv.bias[:, None, None]
    torch.testing.assert_close(conv(x), wanted)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"groups": 2}, "grouped"),
        ({"kernel_size": 1}, "1x1"),
        ({"out_channels": 16}, "output channels .*input channels"),
        ({"in_channels": 24, "out_channels": 24}, r"groups of 16 channels \(conv.group_channels\)"),
    ],
)
def test_unsupported_layers_are_refused_with_the_reason(layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"^involution .*{reason}"):
        Involution2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, **layer})
