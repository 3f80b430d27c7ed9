import pytest
import torch

from convbench.errors import UserError
from convbench.models.from_torchvision import torchvision_classifier


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_a_classifier_comes_by_name_with_as_many_logits_as_asked_for(name: str) -> None:
    with torch.device("meta"):
        network = torchvision_classifier(name, num_classes=7, in_channels=3).eval()
    assert network(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 7)
    assert network.name == name


def test_its_weights_are_random_draws_of_the_global_generator() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(torchvision_classifier("squeezenet1_1", 3, 3).state_dict()["features.0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["resnet19", "ResNet18", "fcn_resnet50", ""])
def test_an_unknown_name_lists_the_classifiers_there_are(name: str) -> None:
    with pytest.raises(UserError) as caught:
        torchvision_classifier(name, 10, 3)
    message = str(caught.value)
    assert message.startswith(f"torchvision has no classifier {name!r}; choose one of alexnet, ")
    assert message.endswith(" (model.name)")
    choices = message.partition("choose one of ")[2].removesuffix(" (model.name)").split(", ")
    assert {"resnet18", "mobilenet_v2", "vgg11_bn"} <= set(choices)
    assert "fcn_resnet50" not in choices  # segments images


def test_grey_images_are_refused_with_two_ways_out() -> None:
    with pytest.raises(UserError) as caught:
        torchvision_classifier("resnet18", 10, 1)
    assert str(caught.value) == (
        "torchvision's resnet18 has a 3-channel stem, but the images have 1: "
        "choose RGB data (data.channels=3 for a folder) or model=resnet (model)"
    )
