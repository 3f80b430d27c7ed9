"""What every network of ours promises: sizes, channels, gradients, and that the swap reaches all its convs."""

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

# Image size and channels to a network of ten classes.
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
def test_it_takes_grey_and_colour_of_28_to_224_pixels(name: str, size: int, channels: int) -> None:
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
def test_the_swap_reaches_every_conv(name: str) -> None:
    network = NETWORKS[name](32, 3)
    convs = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    swapped, report = swap_convs(network, WeightedSumConv2d)
    assert len(report.swapped) == convs > 0
    assert not any(isinstance(module, nn.Conv2d) for module in swapped.modules())
    assert swapped(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "conv"), [*((name, "standard") for name in NETWORKS), *(("resnet", conv) for conv in CLASSES)]
)
def test_every_trainable_number_is_in_the_row_of_a_layer(name: str, conv: str) -> None:
    with torch.device("meta"):
        network, _ = swap_convs(NETWORKS[name](32, 3), CLASSES[conv], unsupported="skip")
    summary = summarise(network, 3, 32)
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters == parameters(network)
    assert sum(layer.macs for layer in summary.layers) == summary.macs


@each
def test_it_says_its_name_its_widths_and_the_smallest_image(name: str) -> None:
    network = NETWORKS[name](32, 3)
    assert network.name.startswith(name)
    assert all(isinstance(width, int) for width in network.widths)
    least = network.min_image_size
    NETWORKS[name](least, 3).eval()(torch.randn(1, 3, least, least))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet(11, 10), "images of 11x11 are too small for lenet, which needs at least 12x12"),
        (lambda: MnistNet(15, 10), "images of 15x15 are too small for mnist_net, which needs at least 16x16"),
        (lambda: VGG([1, 1], 8, True, 3, 10), "images of 3x3 are too small for vgg5, which needs at least 4x4"),
        (lambda: LeNet(28, 10, widths=[6]), "widths [6] must be 2 positive numbers for lenet (model.widths)"),
        (lambda: VGG([0], 8, True, 32, 10), "vgg got blocks [0]; choose one to 5 numbers of at least 1 (model.blocks)"),
        (lambda: VGG([1], 0, True, 32, 10), "vgg got hidden 0; choose a whole number of at least 1 (model.hidden)"),
        (lambda: ConvNeXt([1] * 5, "3x3", 10), "convnext got blocks [1, 1, 1, 1, 1]; choose one to 4 numbers"),
        (lambda: ConvNeXt([1], "7x7", 10), "convnext has no stem '7x7'; choose 3x3, 2x2, 4x4 (model.stem)"),
        (lambda: PreActResNet(50, 10), "preact_resnet has no depth 50; choose 8, 14, 20"),
        (lambda: WideResNet(28, 0, 10), "wide_resnet got factor 0; choose a whole number of at least 1 (model.factor)"),
        (lambda: WideResNet(20, 1, 10), "wide_resnet has no depth 20; choose 10, 16, 22, 28, 40"),
        (lambda: ResNeXt(30, 8, 1, 10), "resnext has no depth 30; choose 20, 29, 38"),
        (lambda: ResNeXt(29, 0, 1, 10), "resnext got groups 0; choose a whole number of at least 1 (model.groups)"),
        (
            lambda: ResNeXt(29, 3, 0.5, 10, widths=[8, 8, 8]),
            "a ResNeXt block of width 8 has 4 channels within, which cannot be split into 3 groups",
        ),
        (lambda: MnistNet(28, 10, dropout=1.0), "a dropout of 1.0 is out of range"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_choices(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(message)
