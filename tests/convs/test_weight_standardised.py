"""Weight standardisation: mean and standard deviation of its kernels."""

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.weight_standardised import WeightStandardisedConv2d
from convbench.errors import UserError
from tests.convs.catalogue import YAMLS


@pytest.mark.parametrize(("scaled", "deviation"), [(False, 1.0), (True, (16 * 9) ** -0.5)])
@pytest.mark.parametrize("implementation", WeightStandardisedConv2d.implementations)
def test_kernels_have_mean_zero_and_the_expected_standard_deviation(
    implementation: str, scaled: bool, deviation: float
) -> None:
    conv = WeightStandardisedConv2d(16, 4, 3, bias=False, scaled=scaled, implementation=implementation)
    conv.weight.data = conv.weight.data * 50 + 3
    impulses = torch.eye(16 * 9).view(-1, 16, 3, 3)
    kernels = conv(impulses)[:, :, 0, 0].T  # (4, 16 * 9)
    torch.testing.assert_close(kernels.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(kernels.std(1, correction=0), torch.full((4,), deviation), rtol=1e-4, atol=0)


@pytest.mark.parametrize("implementation", WeightStandardisedConv2d.implementations)
@pytest.mark.parametrize("yaml", [True, False], ids=["yaml", "default"])
def test_initial_kernels_over_512_channels_have_standard_deviation_1(implementation: str, yaml: bool) -> None:
    epsilon = {"epsilon": YAMLS["weight_standardised"]["epsilon"]} if yaml else {}
    torch.manual_seed(0)
    conv = WeightStandardisedConv2d(512, 4, 3, bias=False, scaled=False, implementation=implementation, **epsilon)
    kernels = conv(torch.eye(512 * 9).view(-1, 512, 3, 3))[:, :, 0, 0].T  # (4, 512 * 9)
    torch.testing.assert_close(kernels.std(1, correction=0), torch.ones(4), rtol=1e-3, atol=0)


def test_the_output_for_a_constant_image_is_the_bias() -> None:
    conv = WeightStandardisedConv2d(8, 4, 3)
    y = conv(torch.full((1, 8, 5, 5), 7.0))
    torch.testing.assert_close(y, conv.bias.view(1, 4, 1, 1).expand_as(y), atol=1e-4, rtol=0)


def test_kernels_of_one_or_two_weights_and_a_wrong_epsilon_are_refused() -> None:
    for groups in (8, 4):  # kernels of one and of two weights
        with pytest.raises(UnsupportedLayerError, match=r"weight_standardised .*at least 3 weights"):
            WeightStandardisedConv2d(8, 8, 1, groups=groups)
    with pytest.raises(UserError, match=r"weight_standardised .*epsilon 0; .*above 0 \(conv.epsilon\)"):
        WeightStandardisedConv2d(8, 8, 3, epsilon=0)
