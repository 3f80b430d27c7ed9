"""Subjects, findings, and the comparison of results."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convbench.errors import UserError
from convbench.examination.subject import difference, run, seeded, sizes, terms, with_implementation
from convbench.examination.suite import examine
from tests.examination.subjects import subject_of, subject_of_option, verdicts


class ScalarGainConv2d(nn.Conv2d):
    """A factor without dimensions: its gradient is a sum of terms of both signs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * super().forward(x)


class InnerLayersConv2d(nn.Conv2d):
    """A layer inside it is built without the arguments device and dtype."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mix = nn.Conv2d(self.out_channels, self.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(super().forward(x))


class NormedConv2d(nn.Conv2d):
    """The gradient of its bias, which is before a norm, is zero, but a sum of terms that are not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class MaskedConv2d(nn.Conv2d):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("mask", torch.ones(self.weight.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


@pytest.mark.parametrize("kind", [ScalarGainConv2d, InnerLayersConv2d, NormedConv2d, MaskedConv2d])
def test_a_correct_convolution_fails_no_examination(kind: type[nn.Module]) -> None:
    assert "FAIL" not in verdicts(examine(subject_of(kind))).values()


def test_the_random_state_is_restored() -> None:
    before = torch.get_rng_state()
    with seeded(0):
        first = torch.rand(3)
    with seeded(0):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_terms_of_a_gradient_may_be_larger_than_the_gradient() -> None:
    subject = subject_of(NormedConv2d)
    conv, x = subject.make(dtype=torch.float64), subject.images(dtype=torch.float64)
    gradient = run(conv, x)[1]["bias"]
    assert gradient.abs().max() < 1e-9
    assert sizes(conv, x)["bias"] > 0.01


def test_a_difference_of_shapes_is_infinite_and_a_difference_of_nan_is_nan() -> None:
    ones: tuple[Tensor, dict[str, Tensor]] = (torch.ones(2), {})
    assert difference((torch.ones(2) + 0.5, {}), ones, {"": 2.0}) == 0.25
    assert difference((torch.ones(3), {}), ones, {"": 1.0}) == math.inf
    assert math.isnan(difference((torch.full((2,), math.nan), {}), ones, {"": 1.0}))


def test_the_number_of_terms_is_that_of_the_largest_layer_inside() -> None:
    assert terms(subject_of(InnerLayersConv2d).make()) == 8 * 3 * 3


def test_another_implementation_is_set_in_a_copy() -> None:
    conv = subject_of_option("weighted_sum").make()
    copied: Any = with_implementation(conv, "folded")
    assert (conv.implementation, copied.implementation) == ("pointwise", "folded")
    with pytest.raises(UserError):
        with_implementation(subject_of_option("standard").make("5x5"), "winograd")
