"""Every network, with and without norms, and with every convolution, can overfit one batch."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from convbench.convs.swap import swap_convs
from convbench.models.convnext import ConvNeXt
from convbench.models.from_torchvision import torchvision_classifier
from convbench.models.lenet import LeNet
from convbench.models.mnist_net import MnistNet
from convbench.models.preact_resnet import PreActResNet, WideResNet
from convbench.models.resnet import ResNet
from convbench.models.resnext import ResNeXt
from convbench.models.vgg import VGG
from tests.convs.catalogue import CLASSES, YAMLS

VGG_BLOCKS = {"vgg11": [1, 1, 2, 2, 2], "vgg16": [2, 2, 3, 3, 3]}
WIDTHS = [8, 16, 16, 32, 32]

# A function that creates the network, and the height and width of its images.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{
        f"{name} norm={norm}": (
            lambda blocks=blocks, norm=norm: VGG(blocks, 64, norm, 32, 4, widths=WIDTHS, dropout=0.0),
            32,
        )
        for name, blocks in VGG_BLOCKS.items()
        for norm in (True, False)
    },
    **{f"resnet8 {stem}": (lambda stem=stem: ResNet(8, 4, stem=stem, widths=[4, 8, 8]), 16) for stem in ("3x3", "7x7")},
    "resnet8 3x3_bias": (lambda: ResNet(8, 4, stem="3x3_bias", widths=[4, 8, 8]), 16),
    "resnet18": (lambda: ResNet(18, 4, widths=[4, 8, 8, 8]), 16),
    "resnet50": (lambda: ResNet(50, 4, widths=[2, 2, 4, 4]), 16),
    "preact_resnet8": (lambda: PreActResNet(8, 4, widths=[4, 8, 8]), 16),
    "wide_resnet10": (lambda: WideResNet(10, 1, 4, widths=[4, 8, 8]), 16),
    "resnext11": (lambda: ResNeXt(11, 2, 0.5, 4, widths=[8, 16, 16]), 16),
    "convnext": (lambda: ConvNeXt([1, 2], "3x3", 4, widths=[8, 16]), 16),
    "lenet": (lambda: LeNet(28, 4, in_channels=3), 28),
    "mnist_net": (lambda: MnistNet(28, 4, in_channels=3, dropout=0.0), 28),
    "torchvision shufflenet": (lambda: torchvision_classifier("shufflenet_v2_x0_5", 4, 3), 32),
}
SLOW = dict.fromkeys(("resnet18", "resnet50", "torchvision shufflenet"), pytest.mark.slow)  # seconds each


def batch(image_size: int) -> tuple[Tensor, Tensor]:
    """Create twelve images of noise in four classes, which differ in the position of a bright quarter."""
    images, labels = torch.randn(12, 3, image_size, image_size) * 0.5, torch.arange(12) % 4
    half = image_size // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, label // 2 * half :][:, :half, label % 2 * half :][:, :, :half] += 1.5
    return images, labels


def loss_after(network: nn.Module, image_size: int, steps: int) -> float:
    """Return the loss on one batch after some steps of AdamW on it; equal probabilities have a loss of 1.39."""
    torch.manual_seed(1)
    images, labels = batch(image_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(images), labels)
        if loss.item() < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in NETWORKS])
def test_every_network_can_fit_one_batch(name: str) -> None:
    make, image_size = NETWORKS[name]
    torch.manual_seed(0)
    assert loss_after(make().train(), image_size, steps=120) < 0.1


# Without involution, whose outputs grow with the square of its inputs, and from_scratch, which equals standard.
@pytest.mark.parametrize(
    "conv",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("deformable", "odconv") else ())
        for name in CLASSES
        if name not in ("involution", "from_scratch")
    ],
)
def test_a_vgg_without_norms_can_fit_one_batch_with_every_convolution(conv: str) -> None:
    torch.manual_seed(0)
    network = VGG(VGG_BLOCKS["vgg11"], 64, False, 32, 4, widths=[8, 16, 16, 16, 16], dropout=0.0)
    swap_convs(network, CLASSES[conv], skip=["first"], unsupported=YAMLS[conv]["unsupported"])
    assert loss_after(network, 32, steps=150) < 0.1


@pytest.mark.parametrize("blocks", VGG_BLOCKS.values(), ids=VGG_BLOCKS)
def test_activations_of_a_vgg_without_norms_do_not_vanish_in_any_layer(blocks: list[int]) -> None:
    torch.manual_seed(0)
    network, scales = VGG(blocks, 64, False, 32, 4, dropout=0.0), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, args, output: scales.append(output.square().mean().item()))
    network(torch.randn(8, 3, 32, 32))
    assert all(after > before / 3 for before, after in pairwise(scales[:-1]))
