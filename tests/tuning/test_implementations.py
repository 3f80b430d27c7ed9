"""Tests of `conv.implementation=auto`: the choice by measurement, its cache, and its reuse by a resumed run."""

import json
import re
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.standard import StandardConv2d
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.errors import UserError
from convbench.tuning.implementations import choose_implementations, medians
from convbench.tuning.measurements import MeasurementCache
from tests.conftest import TINY

CPU = torch.device("cpu")


def slow(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    time.sleep(0.01)
    return F.conv2d(x, weight, bias, *geometry)


def slow_when_small(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    time.sleep(0.005 if x.shape[-1] < 8 else 0.015)
    return F.conv2d(x, weight, bias, *geometry)


def unsupported(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    raise UserError("too large")


class UnevenConv2d(StandardConv2d):
    name = "uneven"
    implementations: ClassVar[Any] = {"slow": slow, "slow_when_small": slow_when_small, "unsupported": unsupported}
    only_on: ClassVar[Any] = {}
    reference_implementation = "slow"


def network() -> nn.Sequential:
    large = UnevenConv2d(2, 2, 3, stride=2, padding=1, implementation="auto")
    return nn.Sequential(large, UnevenConv2d(2, 2, 3, padding=1, implementation="auto"))


def choose(net: nn.Module, folder: Path, **known: Any) -> dict[str, str]:
    return choose_implementations(net, torch.randn(2, 2, 8, 8), "none", MeasurementCache(folder, CPU), **known)


def test_each_layer_gets_the_fastest_implementation_for_its_input_and_nothing_else_changes(tmp_path: Path) -> None:
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert choose(net, tmp_path) == {"0": "slow", "1": "slow_when_small"}
    assert [conv.implementation for conv in net] == ["slow", "slow_when_small"]
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_stored_measurements_are_used_instead_of_new_ones(tmp_path: Path) -> None:
    choose(network(), tmp_path)
    path = tmp_path / "measured.json"
    known = json.loads(path.read_text())
    ((where, topics),) = known.items()
    assert torch.__version__ in where
    (layers,) = topics.values()
    assert len(layers) == 2
    for times in layers.values():
        times["slow"] = 0.0
    path.write_text(json.dumps(known))
    assert choose(network(), tmp_path) == {"0": "slow", "1": "slow"}


def test_equal_layers_are_measured_once(tmp_path: Path) -> None:
    convs = [WeightedSumConv2d(2, 2, 3, padding=1, implementation="auto") for _ in range(5)]
    assert len(choose(nn.Sequential(*convs), tmp_path)) == 5
    ((topics,),) = [known.values() for known in [json.loads((tmp_path / "measured.json").read_text())]]
    (layers,) = topics.values()
    assert len(layers) == 1


def test_a_resumed_run_keeps_its_implementations_without_a_measurement(tmp_path: Path) -> None:
    assert choose(network(), tmp_path, known={"0": "slow_when_small", "1": "slow"}) == {
        "0": "slow_when_small",
        "1": "slow",
    }
    assert not (tmp_path / "measured.json").exists()


def test_nothing_is_measured_if_no_implementation_is_auto(tmp_path: Path) -> None:
    assert choose(nn.Sequential(StandardConv2d(2, 2, 3)), tmp_path) == {}
    assert not (tmp_path / "measured.json").exists()


def test_implementations_for_other_devices_are_not_measured() -> None:
    assert "fused" not in medians(WeightedSumConv2d(4, 4, 3, padding=1), torch.randn(1, 4, 5, 5), "none", rounds=1)


def test_a_measurement_file_that_cannot_be_read_or_written_causes_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "measured.json").write_text("no json")
    (tmp_path / "file").touch()
    assert choose(network(), tmp_path) == {"0": "slow", "1": "slow_when_small"}
    assert choose(network(), tmp_path / "file") == {"0": "slow", "1": "slow_when_small"}
    assert "(engine.cache)" in caplog.text


def test_a_run_prints_and_records_the_chosen_implementations(run_here: Any, results: Any) -> None:
    done = run_here("train", *TINY, "conv=weighted_sum", "conv.implementation=auto", "engine.cache=cache")
    assert done.code == 0, done.err
    assert re.search(r"^conv .*\(auto: ", done.out, re.M)
    ((_, result),) = results()
    assert {row["implementation"] for row in result["swap"]} <= {"linear", "pointwise", "folded"}
