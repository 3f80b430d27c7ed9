"""The published parameter counts and the initial values of the weighted-sum convolution."""

import pytest
import torch
import torchvision
from torch import nn

from convbench.convs.factory import conv_factory
from convbench.convs.standard import StandardConv2d
from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d


@pytest.mark.parametrize(
    ("conv_class", "bias", "published"), [(StandardConv2d, None, 11_689_512), (WeightedSumConv2d, True, 1_958_824)]
)
def test_resnet18_has_the_published_number_of_parameters(
    conv_class: type[nn.Module], bias: bool | None, published: int
) -> None:
    with torch.device("meta"):
        network = torchvision.models.resnet18()
    network, _ = swap_convs(network, conv_factory(conv_class, bias=bias))
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad) == published


def test_its_two_parts_have_the_initialisation_of_two_conv2d() -> None:
    torch.manual_seed(0)
    pointwise, depthwise = nn.Conv2d(8, 6, 1, groups=2, bias=False), nn.Conv2d(6, 6, 3, groups=6)
    torch.manual_seed(0)
    conv = WeightedSumConv2d(8, 6, 3, groups=2)
    assert torch.equal(conv.pointwise_weight, pointwise.weight)
    assert torch.equal(conv.depthwise_weight, depthwise.weight)
    assert conv.bias is not None
    assert torch.equal(conv.bias, depthwise.bias)


def test_all_implementations_agree_with_two_layers_of_torch() -> None:
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    conv = WeightedSumConv2d(8, 6, 3, stride=2, padding=1, dtype=torch.float64)
    pointwise = nn.Conv2d(8, 6, 1, bias=False, dtype=torch.float64)
    depthwise = nn.Conv2d(6, 6, 3, 2, 1, groups=6, dtype=torch.float64)
    pointwise.weight, depthwise.weight, depthwise.bias = conv.pointwise_weight, conv.depthwise_weight, conv.bias
    for implementation in conv.implementations:
        conv.use(implementation)
        torch.testing.assert_close(conv(x), depthwise(pointwise(x)))
