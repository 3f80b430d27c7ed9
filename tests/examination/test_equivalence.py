"""Equivalence of implementations, the contract of `nn.Conv2d`, gradients, and the supported layers."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.convs.base import library
from convbench.convs.standard import StandardConv2d
from convbench.examination.equivalence import contract, gradients, implementations, layers
from convbench.examination.subject import Finding, Subject
from tests.examination.subjects import subject_of, subject_of_option, verdicts


def _without_bias_at_stride_2(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    wrong_bias = bias if bias is None or geometry.stride != (2, 2) else 0 * bias
    return functional.conv2d(x, weight, wrong_bias, *geometry)


class WrongImplementationConv2d(StandardConv2d):
    """One of its implementations ignores the bias if the stride is 2."""

    name = "wrong_implementation"
    implementations = {"library": library, "without_bias": _without_bias_at_stride_2}  # noqa: RUF012


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


class WrongGradientConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_WrongGradient.apply(x))


class RefusingConv2d(StandardConv2d):
    def __init__(self, *conv2d: Any, **geometry: Any) -> None:
        super().__init__(*conv2d, **geometry)
        self._refuse("supports no layer")


class BiaslessConv2d(nn.Conv2d):
    def __init__(self, *args: Any, bias: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, bias=False, **kwargs)


class BatchMeanConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


class UnpaddedConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


@pytest.mark.parametrize(
    ("kind", "examination", "name"),
    [
        (RefusingConv2d, layers, "layers"),
        (BiaslessConv2d, contract, "contract"),
        (BatchMeanConv2d, contract, "contract"),
        (UnpaddedConv2d, contract, "contract"),
        (WrongImplementationConv2d, implementations, "= without_bias"),
        (WrongGradientConv2d, gradients, "gradients"),
    ],
)
def test_a_faulty_convolution_fails_the_examination_of_its_fault(
    kind: type[nn.Module], examination: Callable[[Subject], Iterator[Finding]], name: str
) -> None:
    assert verdicts(examination(subject_of(kind)))[name] == "FAIL"


def test_only_the_faulty_implementation_of_a_convolution_fails() -> None:
    found = verdicts(implementations(subject_of(WrongImplementationConv2d)))
    assert found == {"= library": "PASS", "= without_bias": "FAIL"}


def test_gradients_are_compared_with_finite_differences_only_without_a_second_implementation() -> None:
    assert verdicts(gradients(subject_of(nn.Conv2d))) == {"gradients": "PASS"}
    assert list(gradients(subject_of_option("weighted_sum"))) == []


def test_the_errors_of_each_implementation_are_reported() -> None:
    texts = {finding.name: finding.text for finding in implementations(subject_of_option("weighted_sum"))}
    for implementation in ("linear", "pointwise", "folded"):
        errors = re.search(r"error (\S+) in float64 .*, (\S+) in float32", texts[f"= {implementation}"])
        assert errors is not None
        assert 0 <= float(errors[1]) <= 1e-10
        assert 0 < float(errors[2]) <= 1e-5


def test_layers_that_a_convolution_refuses_are_reported_and_do_not_fail() -> None:
    (finding,) = layers(subject_of_option("partial"))
    assert finding.verdict == "PASS"
    assert "refuses stride 2, 1x1, groups, no padding" in finding.text
