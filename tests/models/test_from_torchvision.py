import pytest
import torch
import torchvision

from convbench.errors import UserError
from convbench.models.counting import summarise
from convbench.models.from_torchvision import torchvision_classifier


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_a_classifier_is_created_by_name_with_the_requested_number_of_logits(name: str) -> None:
    with torch.device("meta"):
        network = torchvision_classifier(name, num_classes=7, in_channels=3).eval()
    assert network(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 7)
    assert network.name == name


def test_its_weights_are_drawn_from_the_global_generator() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(torchvision_classifier("squeezenet1_1", 3, 3).state_dict()["features.0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["resnet19", "ResNet18", "fcn_resnet50", ""])
def test_the_error_for_an_unknown_name_lists_the_classifiers(name: str) -> None:
    with pytest.raises(UserError) as caught:
        torchvision_classifier(name, 10, 3)
    problem, _, choices = str(caught.value).partition("; ")
    assert repr(name) in problem
    assert choices.endswith(" (model.name)")
    names = choices.removesuffix(" (model.name)").replace(",", "").split()
    assert {"alexnet", "resnet18", "mobilenet_v2", "vgg11_bn"} <= set(names)
    assert "fcn_resnet50" not in names  # a segmentation network


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 224),
        ("convnext_tiny", 64),
        ("densenet121", 64),
        ("efficientnet_v2_s", 64),
        ("googlenet", 64),
        ("inception_v3", 96),
        ("mnasnet0_5", 64),
        ("mobilenet_v3_small", 64),
        ("regnet_y_400mf", 64),
        ("resnext50_32x4d", 64),
        ("shufflenet_v2_x0_5", 64),
        ("squeezenet1_1", 64),
        ("vgg11_bn", 64),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_every_family_supports_grey_and_colour_images_and_returns_one_tensor_in_training_mode(
    name: str, size: int, in_channels: int
) -> None:
    network = torchvision_classifier(name, num_classes=5, in_channels=in_channels).train().to("meta")
    assert network(torch.empty(2, in_channels, size, size, device="meta")).shape == (2, 5)


def test_the_stem_for_grey_images_keeps_its_geometry_and_gets_a_gradient() -> None:
    network = torchvision_classifier("resnet18", 10, in_channels=1)
    assert repr(network.conv1) == repr(torchvision.models.resnet18().conv1).replace("Conv2d(3,", "Conv2d(1,")
    network(torch.randn(2, 1, 32, 32)).sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "size"), [("convnext_tiny", 64), ("vit_b_32", 224), ("swin_t", 64), ("resnet18", 64)])
def test_every_parameter_belongs_to_one_layer_of_the_summary(name: str, size: int) -> None:
    with torch.device("meta"):
        summary = summarise(torchvision_classifier(name, 10, 3), 3, size)
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert sum(layer.macs for layer in summary.layers) == summary.macs
