"""The shapes of the CNN lecture (S2) and of "Unboxing the blackbox" (S4), and published parameter counts."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from convbench.models.convnext import ConvNeXt
from convbench.models.lenet import LeNet
from convbench.models.mnist_net import MnistNet
from convbench.models.preact_resnet import PreActResNet, WideResNet
from convbench.models.resnet import ResNet
from convbench.models.resnext import ResNeXt, ResNeXtBlock
from convbench.models.vgg import VGG
from tests.models.shapes import parameters, shapes

VGG11 = [1, 1, 2, 2, 2]


def test_lenet_has_the_shapes_of_the_lecture() -> None:
    names = [f"features.{index}" for index in (0, 2, 3, 5)] + [f"classifier.{index}" for index in (0, 1, 3, 5)]
    assert shapes(LeNet(28, 10), (1, 28, 28), *names) == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("widths", "last"), [(None, 25_088), ([16, 32, 64, 128, 128], 6_272)], ids=["published", "small"]
)
def test_vgg11_has_the_shapes_of_the_lecture(widths: list[int] | None, last: int) -> None:
    names = [f"features.{block}" for block in range(5)] + [f"classifier.{index}" for index in (0, 1, 4, 7)]
    channels = widths or [64, 128, 256, 512, 512]
    with torch.device("meta"):
        network = VGG(VGG11, 4096, norm=False, image_size=224, num_classes=10, in_channels=1, widths=widths)
    blocks = [(width, size, size) for width, size in zip(channels, (112, 56, 28, 14, 7), strict=True)]
    assert shapes(network, (1, 224, 224), *names) == [*blocks, (last,), (4096,), (4096,), (10,)]


def test_resnet18_with_its_large_stem_has_the_shapes_of_the_lecture() -> None:
    network = ResNet(18, 10, in_channels=1, stem="7x7")
    assert shapes(network, (1, 96, 96), "maxpool", "layer1", "layer2", "layer3", "layer4", "fc") == [
        (64, 24, 24), (64, 24, 24), (128, 12, 12), (256, 6, 6), (512, 3, 3), (10,)
    ]  # fmt: skip


def test_a_resnext_block_keeps_the_shape_of_the_lecture() -> None:
    assert ResNeXtBlock(32, 32, 1, groups=16, bottleneck=1)(torch.randn(4, 32, 96, 96)).shape == (4, 32, 96, 96)


def test_the_linear_layers_of_the_mnist_network_have_96_inputs() -> None:
    names = ("features.0", "features.2", "features.4", "features.5", "features.7", "features.9", "classifier.0")
    assert shapes(MnistNet(28, 10), (1, 28, 28), *names) == [
        (3, 26, 26), (3, 24, 24), (3, 12, 12), (6, 10, 10), (6, 8, 8), (6, 4, 4), (96,)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda: VGG(VGG11, 4096, False, 224, 1000), torchvision.models.vgg11),
        (lambda: ResNeXt(50, 32, 0.5, 1000, stem="7x7"), torchvision.models.resnext50_32x4d),
        (lambda: ConvNeXt([3, 3, 9, 3], "4x4", 1000), torchvision.models.convnext_tiny),
        (lambda: ResNet(50, 1000, stem="7x7"), torchvision.models.resnet50),
    ],
)
def test_the_published_networks_have_as_many_parameters_as_those_of_torchvision(
    make: Callable[[], nn.Module], theirs: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        assert parameters(make()) == parameters(theirs())


@pytest.mark.parametrize(
    ("make", "millions"),
    [
        (lambda: WideResNet(28, 10, 10), 36.5),  # arXiv 1605.07146, tables 4 and 5
        (lambda: WideResNet(16, 4, 10), 2.7),
        (lambda: WideResNet(40, 4, 10), 8.9),
        (lambda: ResNeXt(29, 8, 2, 10), 34.4),  # arXiv 1611.05431, table 7
        (lambda: ResNeXt(29, 16, 4, 10), 68.1),
        (lambda: PreActResNet(110, 10), 1.7),  # arXiv 1603.05027, table 1
    ],
)
def test_the_networks_have_the_published_number_of_parameters(make: Callable[[], nn.Module], millions: float) -> None:
    with torch.device("meta"):
        assert parameters(make()) / 1e6 == pytest.approx(millions, abs=0.06)
