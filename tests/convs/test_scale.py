"""How large swapped convolutions start in networks without norms, and that norms leave all as it was."""

import pytest
import torch
from torch import Tensor, nn

from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.models.initialisation import initialise_for_relu
from tests.convs.catalogue import CLASSES, YAMLS

# Their kernels are standardised, or their outputs grow with the square of the inputs.
OF_THEIR_OWN_SIZE = ("weight_standardised", "involution")


def plain(*norms: nn.Module) -> nn.Sequential:
    """Two layers of 16 channels, as they are in a VGG."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, *norms)
    initialise_for_relu(network)
    return network


def size(y: Tensor) -> float:
    return y.square().mean().sqrt().item()


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in OF_THEIR_OWN_SIZE])
def test_without_norms_a_swapped_layer_starts_as_large_as_the_replaced_one_and_with_its_bias(name: str) -> None:
    images, network = torch.randn(32, 16, 9, 9).relu(), plain()
    before = network[2]
    nn.init.constant_(before.bias, 0.25)
    swapped, report = swap_convs(network, CLASSES[name], unsupported=YAMLS[name]["unsupported"])
    assert report.rows[1].status == "swapped"
    assert (swapped[2].bias == 0.25).all()
    nn.init.zeros_(before.bias)
    nn.init.zeros_(swapped[2].bias)
    assert size(swapped[2](images)) == pytest.approx(size(before(images)), rel=0.25)


def test_with_norms_a_swapped_layer_starts_as_its_own_constructor_draws_it() -> None:
    conv = swap_convs(plain(nn.BatchNorm2d(16)), WeightedSumConv2d)[0][2]
    assert conv.depthwise_weight.abs().max() <= 1 / 3  # 1 / sqrt(9), as nn.Conv2d draws
    assert swap_convs(plain(), WeightedSumConv2d)[0][2].depthwise_weight.abs().max() > 1 / 3


def test_the_start_depends_on_the_seed_alone_and_draws_nothing_from_the_network() -> None:
    first, again = (swap_convs(plain(), WeightedSumConv2d, seed=3)[0] for _ in range(2))
    torch.manual_seed(7)
    network, wanted = plain(), torch.get_rng_state()
    swap_convs(network, WeightedSumConv2d, seed=3)
    assert torch.equal(torch.get_rng_state(), wanted)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
