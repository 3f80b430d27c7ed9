"""CondConv: routing by sigmoids."""

import torch
from torch import nn

from convbench.convs.condconv import CondConv2d


def test_shares_lie_between_0_and_1_and_do_not_compete() -> None:
    conv, x = CondConv2d(4, 4, 3), torch.randn(3, 4, 5, 5)
    shares = conv.routing_weights(x)
    assert shares.shape == (3, 4)
    assert ((shares > 0) & (shares < 1)).all()
    nn.init.constant_(conv.routing.bias, 50.0)
    torch.testing.assert_close(conv.routing_weights(x), torch.ones(3, 4))


def test_an_image_that_takes_all_experts_gets_the_sum_of_their_kernels() -> None:
    conv, x = CondConv2d(4, 6, 3, padding=1), torch.randn(2, 4, 5, 5)
    nn.init.constant_(conv.routing.bias, 50.0)
    kernel, bias = conv.weight.sum(0).view(6, 4, 3, 3), conv.bias.sum(0)
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(x, kernel, bias, padding=1))
