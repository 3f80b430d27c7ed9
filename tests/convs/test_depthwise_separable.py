"""The cost of the depthwise separable convolution, and its relation to weighted_sum."""

import torch

from convbench.convs.depthwise_separable import DepthwiseSeparableConv2d
from convbench.convs.weighted_sum import WeightedSumConv2d
from tests.convs.macs import macs


def test_it_has_one_kernel_for_each_input_channel_and_one_weight_for_each_pair_of_channels() -> None:
    conv = DepthwiseSeparableConv2d(16, 32, 3, padding=1, bias=False)
    assert sum(parameter.numel() for parameter in conv.parameters()) == 16 * 9 + 16 * 32
    assert macs(conv) == 64 * (16 * 9 + 16 * 32)


def test_with_the_same_kernel_for_all_channels_it_equals_the_weighted_sum() -> None:
    ours, theirs = DepthwiseSeparableConv2d(4, 6, 3, padding=1), WeightedSumConv2d(4, 6, 3, padding=1)
    kernel = torch.randn(1, 1, 3, 3)
    ours.depthwise_weight.data = kernel.expand(4, 1, 3, 3)
    theirs.depthwise_weight.data = kernel.expand(6, 1, 3, 3)
    theirs.pointwise_weight.data, theirs.bias.data = ours.pointwise_weight.data, ours.bias.data
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
