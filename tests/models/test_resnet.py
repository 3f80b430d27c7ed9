import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

import convbench.models
from convbench.errors import UserError
from convbench.models.resnet import ResNet

CIFAR_DEPTHS = [8, 14, 20, 26, 32, 44, 56, 62, 110]
IMAGENET_DEPTHS = [18, 34, 50, 101, 152]


def on_meta(*args: object, **kwargs: object) -> ResNet:
    """Create a network on the meta device."""
    with torch.device("meta"):
        return ResNet(*args, **kwargs).eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def shapes(network: ResNet, channels: int, size: int) -> list[tuple[int, ...]]:
    """Return the output shapes, without the batch, of the stem, the stages and the network."""
    found: list[tuple[int, ...]] = []
    for module in (network.maxpool, *(network.get_submodule(name) for name in network.stages), network):
        module.register_forward_hook(lambda module, args, output: found.append(tuple(output.shape[1:])))
    network(torch.empty(2, channels, size, size, device="meta"))
    return found


def test_the_dog_cat_bird_network_has_its_published_number_of_parameters() -> None:
    assert parameters(on_meta(14, 3, stem="3x3_bias", dropout=0.2)) == 174_787


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_the_cifar_family_has_the_parameter_counts_of_the_paper(depth: int, published: float) -> None:
    # He et al., 2016, table 6, in millions. The shortcuts of the paper have no parameters; here two are projections.
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    digits = len(str(published).partition(".")[2])
    assert round((parameters(on_meta(depth, 10)) - projections) / 1e6, digits) == published


@pytest.mark.parametrize(
    ("depth", "count"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_the_imagenet_family_has_the_parameter_names_and_shapes_of_torchvision(depth: int, count: int) -> None:
    network = on_meta(depth, 1000, stem="7x7")
    assert parameters(network) == count
    with torch.device("meta"):
        theirs = models.get_model(f"resnet{depth}")
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize("depth", [18, 50])
def test_convbench_and_torchvision_load_the_weights_of_each_other_and_give_equal_outputs(depth: int) -> None:
    torch.manual_seed(0)
    ours, theirs = ResNet(depth, 1000, stem="7x7").eval(), models.get_model(f"resnet{depth}").eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # a new batch norm is almost the identity, which would hide errors
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = theirs(images)
        torch.testing.assert_close(ours(images), wanted)
        again = models.get_model(f"resnet{depth}").eval()
        again.load_state_dict(ours.state_dict())
        assert torch.equal(again(images), wanted)


@pytest.mark.parametrize("stem", ["3x3", "3x3_bias", "7x7"])
@pytest.mark.parametrize("depth", CIFAR_DEPTHS + IMAGENET_DEPTHS)
def test_every_depth_and_stem_returns_logits(depth: int, stem: str) -> None:
    channels = 1 if stem == "3x3" else 3
    network = on_meta(depth, 7, in_channels=channels, stem=stem)
    assert network(torch.empty(2, channels, 32, 32, device="meta")).shape == (2, 7)
    assert network.name == f"resnet{depth}"


@pytest.mark.parametrize("depth", CIFAR_DEPTHS + IMAGENET_DEPTHS)
def test_the_depth_is_the_number_of_layers_without_the_shortcuts(depth: int) -> None:
    network = on_meta(depth, 10)
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == depth


def test_stages_of_the_cifar_family_halve_the_image_and_double_the_channels() -> None:
    assert shapes(on_meta(20, 10), 3, 32) == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (10,)]


def test_stages_of_resnet18_have_the_shapes_of_the_lecture_notes() -> None:
    # "CNN lecture notebook": ResNet-18 with a 7x7 stem on 96x96 pixels
    got = shapes(on_meta(18, 10, in_channels=1, stem="7x7"), 1, 96)
    assert got == [(64, 24, 24), (64, 24, 24), (128, 12, 12), (256, 6, 6), (512, 3, 3), (10,)]


def test_stages_of_resnet50_are_four_times_as_wide() -> None:
    got = shapes(on_meta(50, 1000, stem="7x7"), 3, 224)
    assert got == [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7), (1000,)]


def test_widths_set_the_channels_of_each_stage() -> None:
    got = shapes(on_meta(8, 10, widths=[4, 4, 12]), 3, 8)
    assert got == [(4, 8, 8), (4, 8, 8), (4, 4, 4), (12, 2, 2), (10,)]


@pytest.mark.parametrize(
    ("depth", "stem", "smallest"), [(14, "3x3", 4), (14, "7x7", 16), (18, "3x3_bias", 8), (50, "7x7", 32)]
)
def test_the_last_stage_has_one_pixel_for_the_smallest_image(depth: int, stem: str, smallest: int) -> None:
    network = on_meta(depth, 10, stem=stem)
    assert network.min_image_size == smallest
    assert shapes(network, 3, smallest)[-2][1:] == (1, 1)


def test_shortcuts_are_projections_only_if_the_shape_changes() -> None:
    with_projection = {
        depth: [name for name, _ in on_meta(depth, 10).named_modules() if name.endswith("downsample")]
        for depth in (20, 18, 50)
    }
    assert with_projection == {
        20: ["layer2.0.downsample", "layer3.0.downsample"],
        18: ["layer2.0.downsample", "layer3.0.downsample", "layer4.0.downsample"],
        50: ["layer1.0.downsample", "layer2.0.downsample", "layer3.0.downsample", "layer4.0.downsample"],
    }


def test_only_the_plain_stem_has_a_bias_and_no_norm() -> None:
    for stem, has_bias in (("3x3", False), ("3x3_bias", True), ("7x7", False)):
        network = on_meta(14, 3, stem=stem)
        assert (network.conv1.bias is not None) == has_bias
        assert isinstance(network.bn1, nn.Identity) == has_bias
        others = [module for module in network.modules() if isinstance(module, nn.Conv2d)][1:]
        assert all(conv.bias is None for conv in others)


def test_dropout_is_active_in_training_mode_only() -> None:
    torch.manual_seed(0)
    network = ResNet(8, 3, widths=[4, 4, 4], dropout=0.5)
    images = torch.randn(4, 3, 8, 8)
    network.eval()
    assert torch.equal(network(images), network(images))
    network.dropout.train()
    assert not torch.equal(network(images), network(images))


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = ResNet(8, 3, in_channels=1, widths=[4, 4, 8])
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (
            lambda: ResNet(15, 10),
            r"resnet .*depth 15; .*8, 14, 20, 32, 44, 56, 110 .*6n\+2 .*18, 34, 50, 101, 152 .*\(model.depth\)",
        ),
        (lambda: ResNet(14, 10, stem="5x5"), r"resnet14 .*'5x5'; .*3x3, 3x3_bias, 7x7 \(model.stem\)"),
        (lambda: ResNet(14, 10, widths=[16, 32]), r"widths \[16, 32\] .*3 .*depth 14 \(model.widths\)"),
        (lambda: ResNet(18, 10, widths=[16, 32, 64, 0]), r"widths \[16, 32, 64, 0\] .*4 .*depth 18 \(model.widths\)"),
        (lambda: ResNet(14, 10, dropout=1.0), r"dropout .*1.0 .*at least 0 .*below 1 \(model.dropout\)"),
        (lambda: ResNet(14, 10, dropout=-0.1), r"dropout .*-0.1 .*at least 0 .*below 1 \(model.dropout\)"),
    ],
)
def test_the_error_for_a_wrong_argument_has_the_value_the_choices_and_the_key(
    make: Callable[[], object], facts: str
) -> None:
    with pytest.raises(UserError, match=f"^{facts}$"):
        make()


@pytest.mark.parametrize("depth", [-4, 0, 2, 7, 19, 51])
def test_depths_of_neither_family_are_refused(depth: int) -> None:
    with pytest.raises(UserError, match=rf"resnet .*depth {depth}; .*\(model.depth\)$"):
        ResNet(depth, 10)


def test_the_package_of_networks_does_not_import_that_of_convs() -> None:
    package = Path(convbench.models.__file__).parent
    imported = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name}: this test does not find relative imports"
                imported |= {f"{node.module}.{name.name}" for name in node.names}
    ours = {name for name in imported if name.startswith("convbench")}
    assert all(name.startswith(("convbench.errors.", "convbench.models.")) for name in ours)
