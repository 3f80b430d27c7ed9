"""Properties of all networks of convbench: image sizes, channels, gradients, and the swap of all convolutions."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.errors import UserError
from convbench.models.convnext import ConvNeXt
from convbench.models.counting import summarise
from convbench.models.lenet import LeNet
from convbench.models.mnist_net import MnistNet
from convbench.models.preact_resnet import PreActResNet, WideResNet
from convbench.models.resnet import ResNet
from convbench.models.resnext import ResNeXt
from convbench.models.vgg import VGG
from tests.convs.catalogue import CLASSES
from tests.models.shapes import parameters

# Functions of image size and input channels that create a network for ten classes.
NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "convnext": lambda size, channels: ConvNeXt([1, 2], "3x3", 10, channels, [8, 16]),
    "lenet": lambda size, channels: LeNet(size, 10, channels),
    "mnist_net": lambda size, channels: MnistNet(size, 10, channels, dropout=0.0),
    "preact_resnet": lambda size, channels: PreActResNet(8, 10, channels, widths=[4, 8, 8]),
    "resnet": lambda size, channels: ResNet(8, 10, channels, "7x7", widths=[4, 8, 8]),
    "resnext": lambda size, channels: ResNeXt(11, 2, 0.5, 10, channels, widths=[8, 16, 16]),
    "vgg": lambda size, channels: VGG([1, 2], 16, True, size, 10, channels, [4, 8], 0.0),
    "wide_resnet": lambda size, channels: WideResNet(10, 1, 10, channels, widths=[4, 8, 8]),
}
each = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.parametrize("size", [28, 32, 96, 224])
@pytest.mark.parametrize("channels", [1, 3])
@each
def test_it_supports_grey_and_colour_images_of_28_to_224_pixels(name: str, size: int, channels: int) -> None:
    with torch.device("meta"):
        network = NETWORKS[name](size, channels)
        assert network(torch.empty(2, channels, size, size)).shape == (2, 10)


@each
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](32, 3)
    nn.functional.cross_entropy(network(torch.randn(8, 3, 32, 32)), torch.arange(8)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@each
def test_the_swap_replaces_every_conv(name: str) -> None:
    network = NETWORKS[name](32, 3)
    convs = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    swapped, report = swap_convs(network, WeightedSumConv2d)
    assert len(report.swapped) == convs > 0
    assert not any(isinstance(module, nn.Conv2d) for module in swapped.modules())
    assert swapped(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "conv"), [*((name, "standard") for name in NETWORKS), *(("resnet", conv) for conv in CLASSES)]
)
def test_every_parameter_belongs_to_one_layer_of_the_summary(name: str, conv: str) -> None:
    with torch.device("meta"):
        network, _ = swap_convs(NETWORKS[name](32, 3), CLASSES[conv], unsupported="skip")
    summary = summarise(network, 3, 32)
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters == parameters(network)
    assert sum(layer.macs for layer in summary.layers) == summary.macs


@each
def test_it_has_a_name_widths_and_a_smallest_image_size(name: str) -> None:
    network = NETWORKS[name](32, 3)
    assert network.name.startswith(name)
    assert all(isinstance(width, int) for width in network.widths)
    smallest = network.min_image_size
    NETWORKS[name](smallest, 3).eval()(torch.randn(1, 3, smallest, smallest))


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (lambda: LeNet(11, 10), r"11x11 .*lenet, .*12x12: .*\(data.image_size\)"),
        (lambda: MnistNet(15, 10), r"15x15 .*mnist_net, .*16x16: .*\(data.image_size\)"),
        (lambda: VGG([1, 1], 8, True, 3, 10), r"3x3 .*vgg5, .*4x4: .*\(data.image_size\)"),
        (lambda: LeNet(28, 10, widths=[6]), r"widths \[6\] .*2 .*lenet \(model.widths\)"),
        (lambda: VGG([0], 8, True, 32, 10), r"vgg .*blocks \[0\]; .*one to 5 .*at least 1 \(model.blocks\)"),
        (lambda: VGG([1], 0, True, 32, 10), r"vgg .*hidden 0; .*at least 1 \(model.hidden\)"),
        (lambda: ConvNeXt([1] * 5, "3x3", 10), r"convnext .*blocks \[1, 1, 1, 1, 1\]; .*one to 4 .*\(model.blocks\)"),
        (lambda: ConvNeXt([1], "7x7", 10), r"convnext .*'7x7'; .*3x3, 2x2, 4x4 \(model.stem\)"),
        (lambda: PreActResNet(50, 10), r"preact_resnet .*depth 50; .*8, 14, 20, .*\(model.depth\)"),
        (lambda: WideResNet(28, 0, 10), r"wide_resnet .*factor 0; .*at least 1 \(model.factor\)"),
        (lambda: WideResNet(20, 1, 10), r"wide_resnet .*depth 20; .*10, 16, 22, 28, 40 .*\(model.depth\)"),
        (lambda: ResNeXt(30, 8, 1, 10), r"resnext .*depth 30; .*20, 29, 38 .*\(model.depth\)"),
        (lambda: ResNeXt(29, 0, 1, 10), r"resnext .*groups 0; .*at least 1 \(model.groups\)"),
        (
            lambda: ResNeXt(29, 3, 0.5, 10, widths=[8, 8, 8]),
            r"width 8 .*4 channels, .*3 groups; .*model.widths, model.bottleneck or model.groups",
        ),
        (lambda: MnistNet(28, 10, dropout=1.0), r"1.0 .*at least 0 .*below 1 \(model.dropout\)"),
    ],
)
def test_the_error_for_a_wrong_argument_has_the_value_the_choices_and_the_key(
    make: Callable[[], object], facts: str
) -> None:
    with pytest.raises(UserError, match=facts):
        make()
