"""`python -m convbench.doctor`: the table of findings, its last line, and the exit code."""

import re
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class NoisyConv2d(nn.Conv2d):
    """It is not deterministic, which is a warning."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1e-3 * torch.rand_like(x))


class WithoutBiasConv2d(nn.Conv2d):
    """It ignores the argument `bias`, which is a failure."""

    def __init__(self, *args: Any, bias: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, bias=False, **kwargs)


class ScaledConv2d(nn.Conv2d):
    """A correct class without implementations."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * super().forward(x)


def rows(output: str) -> dict[str, str]:
    """The verdict of each examination, by its name."""
    found = re.findall(r"^(PASS|WARN|FAIL|SKIP)  (.{16})  ", output, re.MULTILINE)
    return {name.strip(): verdict for verdict, name in found}


@pytest.mark.parametrize("conv", ["standard", "weighted_sum", "partial"])
def test_a_correct_convolution_passes_every_examination(run_here: Any, conv: str) -> None:
    done = run_here("doctor", f"conv={conv}")
    assert done.code == 0, done.out
    assert set(rows(done.out).values()) == {"PASS"}
    assert re.search(rf"^{conv}: PASS \({len(rows(done.out))} checks\)$", done.out, re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("kind", "examination", "verdict"),
    [(NoisyConv2d, "determinism", "WARN"), (WithoutBiasConv2d, "contract", "FAIL")],
)
def test_the_last_line_and_the_exit_code_tell_whether_an_examination_failed(
    run_here: Any, kind: type[nn.Module], examination: str, verdict: str
) -> None:
    done = run_here("doctor", f"conv._target_={__name__}.{kind.__name__}")
    has_failed = "FAIL" in rows(done.out).values()
    assert rows(done.out)[examination] == verdict, done.out
    last_line = done.out.strip().splitlines()[-1]
    assert examination in last_line
    assert last_line.startswith(f"{kind.__name__}: {'FAIL' if has_failed else 'PASS'}")
    assert done.code == (1 if has_failed else 0)


def test_the_key_of_the_implementation_may_be_removed(run_here: Any) -> None:
    done = run_here("doctor", f"conv._target_={__name__}.ScaledConv2d", "~conv.implementation")
    assert "FAIL" not in rows(done.out).values(), done.out
    assert done.code == 0


def test_a_class_that_is_not_a_convolution_is_an_error(run_here: Any) -> None:
    done = run_here("doctor", "conv._target_=torch.nn.Linear")
    assert done.code == 2
    assert "nn.Conv2d" in done.err
    assert "(conv._target_)" in done.err


def test_a_missing_onnx_package_is_named_and_is_not_a_failure(run_here: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
    done = run_here("doctor")
    assert rows(done.out)["ONNX"] == "SKIP"
    assert "pip install 'convbench[onnx]'" in " ".join(done.out.split())
    assert done.code == 0
