"""CondConv: sigmoid routing weights."""

import torch
from torch import nn

from convbench.convs.condconv import CondConv2d


def test_routing_weights_are_between_0_and_1_and_need_not_sum_to_1() -> None:
    conv, x = CondConv2d(4, 4, 3), torch.randn(3, 4, 5, 5)
    routing_weights = conv.routing_weights(x)
    assert routing_weights.shape == (3, 4)
    assert ((routing_weights > 0) & (routing_weights < 1)).all()
    nn.init.constant_(conv.routing.bias, 50.0)
    torch.testing.assert_close(conv.routing_weights(x), torch.ones(3, 4))


def test_with_all_routing_weights_1_the_kernel_is_the_sum_of_the_experts() -> None:
    conv, x = CondConv2d(4, 6, 3, padding=1), torch.randn(2, 4, 5, 5)
    nn.init.constant_(conv.routing.bias, 50.0)
    kernel, bias = conv.weight.sum(0).view(6, 4, 3, 3), conv.bias.sum(0)
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(x, kernel, bias, padding=1))
