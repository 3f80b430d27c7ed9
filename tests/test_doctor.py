"""The conv doctor: sound convs pass, and each sickness is found by the examination that is there for it."""

import re
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.convs.base import library
from convbench.convs.standard import StandardConv2d


def _without_bias_at_stride_2(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    forgotten = bias if bias is None or geometry.stride != (2, 2) else 0 * bias
    return functional.conv2d(x, weight, forgotten, *geometry)


class DisagreeingConv2d(StandardConv2d):
    """One of its implementations forgets the bias, in one kind of layer."""

    name = "disagreeing"
    implementations = {"library": library, "forgetful": _without_bias_at_stride_2}  # noqa: RUF012


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


class FadingConv2d(nn.Conv2d):
    """Little of the gradient gets through it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(0.01 * x + 0.99 * x.detach())


class NumberTemperatureConv2d(nn.Conv2d):
    """Its temperature is a Python number, which a compiler takes for a constant."""

    temperature = 30.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.temperature


class GraphBreakConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 if x.sum().item() > -1e9 else 2)


class ExplodingConv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.weight.data *= 1000


class ZeroConv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.weight.data.zero_()


class ForgetfulConv2d(nn.Conv2d):
    """A scale that it learns does not come into its state_dict."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(self.weight.new_ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if not key.endswith("scale")}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class ViewingConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1).view(x.shape))


class DiceConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1e-3 * torch.rand_like(x))


class ChannelsFirstConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


class RefusingConv2d(StandardConv2d):
    def __init__(self, *conv2d: Any, **geometry: Any) -> None:
        super().__init__(*conv2d, **geometry)
        self._refuse("takes nothing")


class ScalarGainConv2d(nn.Conv2d):
    """A factor without dimensions, whose gradient is a sum of numbers of both signs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * super().forward(x)


class InnerLayersConv2d(nn.Conv2d):
    """A layer inside that knows nothing of the dtype and the device asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mix = nn.Conv2d(self.out_channels, self.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(super().forward(x))


class NormedConv2d(nn.Conv2d):
    """The gradient of a bias before a norm is zero, and sums up numbers that are not."""

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


class BiaslessConv2d(nn.Conv2d):
    def __init__(self, *args: Any, bias: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, bias=False, **kwargs)


class BatchMeanConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


class UnpaddedConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


@torch.library.custom_op("convbench_tests::tripled", mutates_args=())
def tripled(x: Tensor) -> Tensor:
    return 3 * x


tripled.register_autograd(lambda ctx, gradient: 3 * gradient)


class CustomOperatorConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(tripled(x))


def rows(said: str) -> dict[str, str]:
    """Verdict by the name of the examination."""
    found = re.findall(r"^(PASS|WARN|FAIL|SKIP)  (.{16})  ", said, re.MULTILINE)
    return {name.strip(): verdict for verdict, name in found}


@pytest.mark.parametrize("conv", ["standard", "weighted_sum", "partial"])
def test_a_sound_conv_passes_every_examination(run_here: Any, conv: str) -> None:
    done = run_here("doctor", f"conv={conv}")
    assert done.code == 0, done.out
    assert set(rows(done.out).values()) == {"PASS"}
    assert re.search(rf"^{conv}: PASS \({len(rows(done.out))} checks\)$", done.out, re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_row_for_each_implementation_says_how_far_it_is_off(run_here: Any) -> None:
    said = run_here("doctor", "conv=weighted_sum").out
    for implementation in ("linear", "pointwise", "folded"):
        errors = re.search(rf"^PASS  = {implementation} +error (\S+) float64, (\S+) float32", said, re.MULTILINE)
        assert 0 <= float(errors[1]) <= 1e-10
        assert 0 < float(errors[2]) <= 1e-5


def test_the_layers_that_a_conv_refuses_are_named_and_are_no_fault(run_here: Any) -> None:
    said = run_here("doctor", "conv=partial").out
    assert "refuses stride 2, 1x1, groups, no padding" in " ".join(said.split())


def test_a_per_image_conv_is_told_which_implementation_can_be_exported(run_here: Any) -> None:
    done = run_here("doctor", "conv=condconv")
    assert done.code == 0, done.out
    assert rows(done.out)["torch.compile"] == "PASS"
    assert "grouped cannot be exported for any batch size; mix_after can" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("kind", "examination", "verdict"),
    [
        (WrongGradientConv2d, "gradients", "FAIL"),
        (FadingConv2d, "gradient flow", "FAIL"),
        (NumberTemperatureConv2d, "torch.compile", "FAIL"),
        (GraphBreakConv2d, "torch.compile", "WARN"),
        (ExplodingConv2d, "variance", "WARN"),
        (ZeroConv2d, "variance", "FAIL"),
        (ForgetfulConv2d, "state_dict", "FAIL"),
        (ViewingConv2d, "channels_last", "FAIL"),
        (ChannelsFirstConv2d, "channels_last", "WARN"),
        (DiceConv2d, "determinism", "WARN"),
        (RefusingConv2d, "layers", "FAIL"),
        (DisagreeingConv2d, "= forgetful", "FAIL"),
        (BiaslessConv2d, "contract", "FAIL"),
        (BatchMeanConv2d, "contract", "FAIL"),
        (UnpaddedConv2d, "contract", "FAIL"),
        (CustomOperatorConv2d, "FLOP counter", "WARN"),
    ],
)
def test_a_sick_conv_is_found_out_by_the_examination_for_it(
    run_here: Any, kind: type[nn.Module], examination: str, verdict: str
) -> None:
    done = run_here("doctor", f"conv._target_={__name__}.{kind.__name__}")
    assert rows(done.out)[examination] == verdict, done.out
    last = done.out.strip().splitlines()[-1]
    assert examination in last
    assert last.startswith(f"{kind.__name__}: {'FAIL' if 'FAIL' in rows(done.out).values() else 'PASS'}")
    assert done.code == (1 if "FAIL" in rows(done.out).values() else 0)


@pytest.mark.parametrize("kind", [ScalarGainConv2d, InnerLayersConv2d, NormedConv2d, MaskedConv2d])
def test_a_sound_class_of_ones_own_fails_nothing(run_here: Any, kind: type[nn.Module]) -> None:
    done = run_here("doctor", f"conv._target_={__name__}.{kind.__name__}", "~conv.implementation")
    assert "FAIL" not in rows(done.out).values(), done.out
    assert done.code == 0


def test_a_class_that_is_no_conv_is_told_so(run_here: Any) -> None:
    done = run_here("doctor", "conv._target_=torch.nn.Linear")
    assert done.code == 2
    assert "a conv type needs the arguments of nn.Conv2d" in done.err


def test_without_the_packages_onnx_is_left_out_and_the_way_to_them_named(run_here: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
    done = run_here("doctor")
    assert rows(done.out)["ONNX"] == "SKIP"
    assert "pip install 'convbench[onnx]'" in done.out
    assert done.code == 0
