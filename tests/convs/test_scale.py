"""The initial output scale of swapped convolutions in networks with and without norms."""

import pytest
import torch
from torch import Tensor, nn

from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.models.initialisation import initialise_for_relu
from tests.convs.catalogue import CLASSES, YAMLS

# The kernels of the first are standardised, and the outputs of the second grow with the square of the inputs.
NOT_RESCALED = ("weight_standardised", "involution")


def small_vgg(*norms: nn.Module) -> nn.Sequential:
    """Create two layers of 16 channels as in a VGG."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, *norms)
    initialise_for_relu(network)
    return network


def root_mean_square(y: Tensor) -> float:
    return y.square().mean().sqrt().item()


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in NOT_RESCALED])
def test_without_norms_a_swapped_layer_has_the_output_scale_and_the_bias_of_the_replaced_one(name: str) -> None:
    images, network = torch.randn(32, 16, 9, 9).relu(), small_vgg()
    before = network[2]
    nn.init.constant_(before.bias, 0.25)
    swapped, report = swap_convs(network, CLASSES[name], unsupported=YAMLS[name]["unsupported"])
    assert report.rows[1].status == "swapped"
    assert (swapped[2].bias == 0.25).all()
    nn.init.zeros_(before.bias)
    nn.init.zeros_(swapped[2].bias)
    assert root_mean_square(swapped[2](images)) == pytest.approx(root_mean_square(before(images)), rel=0.25)


def test_with_norms_a_swapped_layer_keeps_its_own_initialisation() -> None:
    conv = swap_convs(small_vgg(nn.BatchNorm2d(16)), WeightedSumConv2d)[0][2]
    assert conv.depthwise_weight.abs().max() <= 1 / 3  # 1 / sqrt(9), the bound of the initialisation of nn.Conv2d
    assert swap_convs(small_vgg(), WeightedSumConv2d)[0][2].depthwise_weight.abs().max() > 1 / 3


def test_the_initial_values_depend_on_the_seed_only_and_the_global_random_state_stays_unchanged() -> None:
    first, again = (swap_convs(small_vgg(), WeightedSumConv2d, seed=3)[0] for _ in range(2))
    torch.manual_seed(7)
    network, state = small_vgg(), torch.get_rng_state()
    swap_convs(network, WeightedSumConv2d, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
