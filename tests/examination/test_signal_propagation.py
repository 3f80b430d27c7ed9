"""Variance of activations and norm of gradients at initialisation."""

from collections.abc import Callable, Iterator

import pytest
from torch import Tensor, nn

from convbench.examination.signal_propagation import gradient, variance
from convbench.examination.subject import Finding, Subject
from tests.examination.subjects import subject_of, verdicts


class VanishingGradientConv2d(nn.Conv2d):
    """It multiplies the gradient of its input by 0.01."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(0.01 * x + 0.99 * x.detach())


class ExplodingConv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.weight.data *= 1000


class ZeroConv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.weight.data.zero_()


@pytest.mark.parametrize(
    ("kind", "examination", "expected"),
    [
        (nn.Conv2d, variance, {"variance": "PASS"}),
        (nn.Conv2d, gradient, {"gradient flow": "PASS"}),
        (VanishingGradientConv2d, gradient, {"gradient flow": "FAIL"}),
        (ExplodingConv2d, variance, {"variance": "WARN"}),
        (ZeroConv2d, variance, {"variance": "FAIL"}),
    ],
)
def test_vanishing_and_exploding_signals_are_found(
    kind: type[nn.Module], examination: Callable[[Subject], Iterator[Finding]], expected: dict[str, str]
) -> None:
    assert verdicts(examination(subject_of(kind))) == expected
