"""The four factors of the omni-dimensional dynamic convolution."""

import pytest
import torch
from torch import nn

from convbench.convs.odconv import ODConv2d
from convbench.errors import UserError


def test_with_all_factors_one_half_the_kernel_is_an_eighth_of_the_mean_expert() -> None:
    conv, x = ODConv2d(4, 6, 3, padding=1), torch.randn(2, 4, 5, 5)
    for head in (conv.experts, conv.channels, conv.filters, conv.taps):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    kernel = conv.weight.mean(0).view(6, 4, 3, 3)
    wanted = torch.nn.functional.conv2d(x, kernel / 8, conv.bias.mean(0), padding=1)
    torch.testing.assert_close(conv(x), wanted)


def test_a_1x1_kernel_has_no_factor_for_taps_and_a_depthwise_convolution_none_for_filters() -> None:
    assert ODConv2d(4, 4, 1).taps is None
    assert ODConv2d(4, 4, 3, groups=4).filters is None
    assert ODConv2d(4, 8, 3, groups=4).filters is not None


def test_a_high_temperature_makes_all_routing_weights_equal_and_is_a_buffer() -> None:
    conv, x = ODConv2d(4, 4, 3), torch.randn(3, 4, 5, 5)
    conv.temperature.fill_(1e6)
    torch.testing.assert_close(conv.routing_weights(x), torch.full((3, 4), 0.25), atol=1e-5, rtol=0)
    assert "temperature" in conv.state_dict()


def test_the_error_for_a_wrong_argument_has_the_value_the_range_and_the_key() -> None:
    with pytest.raises(UserError, match=r"odconv .*reduction 0; .*above 0 \(conv.reduction\)"):
        ODConv2d(4, 4, 3, reduction=0)
