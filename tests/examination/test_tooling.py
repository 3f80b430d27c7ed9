"""Support of a convolution by torch.compile, the counter of operations, and ONNX."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convbench.examination.subject import Finding
from convbench.examination.tooling import compilation, counting, onnx
from tests.examination.subjects import subject_of, subject_of_option


class ConstantTemperatureConv2d(nn.Conv2d):
    """Its temperature is a Python number, which torch.compile treats as a constant."""

    temperature = 30.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.temperature


class GraphBreakConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 if x.sum().item() > -1e9 else 2)


@torch.library.custom_op("convbench_tests::tripled", mutates_args=())
def tripled(x: Tensor) -> Tensor:
    return 3 * x


tripled.register_autograd(lambda ctx, gradient: 3 * gradient)


class CustomOperatorConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(tripled(x))


@pytest.mark.parametrize(
    ("kind", "verdict"), [(nn.Conv2d, "PASS"), (ConstantTemperatureConv2d, "FAIL"), (GraphBreakConv2d, "WARN")]
)
def test_recompilations_and_graph_breaks_are_found(kind: type[nn.Module], verdict: str) -> None:
    (finding,) = compilation(subject_of(kind))
    assert (finding.name, finding.verdict) == ("torch.compile", verdict)


def test_a_convolution_with_a_kernel_for_each_image_compiles_once() -> None:
    (finding,) = compilation(subject_of_option("condconv"))
    assert finding.verdict == "PASS"


@pytest.mark.parametrize(("kind", "verdict"), [(nn.Conv2d, "PASS"), (CustomOperatorConv2d, "WARN")])
def test_operators_without_a_count_are_found(kind: type[nn.Module], verdict: str) -> None:
    (finding,) = counting(subject_of(kind))
    assert (finding.name, finding.verdict) == ("FLOP counter", verdict)


def test_the_implementation_that_can_be_exported_to_onnx_is_named() -> None:
    (finding,) = onnx(subject_of_option("condconv"))
    assert finding.verdict == "WARN"
    assert "grouped cannot be exported" in finding.text
    assert "mix_after can" in finding.text


def test_onnx_is_skipped_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> Any:
        return None if name == "onnxruntime" else name

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    (finding,) = onnx(subject_of(nn.Conv2d))
    assert isinstance(finding, Finding)
    assert finding.verdict == "SKIP"
    assert "convbench[onnx]" in finding.text
