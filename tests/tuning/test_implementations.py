"""`conv.implementation=auto`: the fastest where it stands, measured once, and the same again for a resumed run."""

import json
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


def refusing(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
    raise UserError("too large")


class UnevenConv2d(StandardConv2d):
    name = "uneven"
    implementations: ClassVar[Any] = {"slow": slow, "slow_when_small": slow_when_small, "refusing": refusing}
    only_on: ClassVar[Any] = {}
    reference_implementation = "slow"


def network() -> nn.Sequential:
    large = UnevenConv2d(2, 2, 3, stride=2, padding=1, implementation="auto")
    return nn.Sequential(large, UnevenConv2d(2, 2, 3, padding=1, implementation="auto"))


def choose(net: nn.Module, folder: Path, **known: Any) -> dict[str, str]:
    return choose_implementations(net, torch.randn(2, 2, 8, 8), "none", MeasurementCache(folder, CPU), **known)


def test_each_layer_gets_the_fastest_for_its_own_input_and_nothing_else_changes(tmp_path: Path) -> None:
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert choose(net, tmp_path) == {"0": "slow", "1": "slow_when_small"}
    assert [conv.implementation for conv in net] == ["slow", "slow_when_small"]
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_what_was_measured_is_kept_and_believed(tmp_path: Path) -> None:
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


def test_layers_that_are_alike_are_measured_once(tmp_path: Path) -> None:
    convs = [WeightedSumConv2d(2, 2, 3, padding=1, implementation="auto") for _ in range(5)]
    assert len(choose(nn.Sequential(*convs), tmp_path)) == 5
    ((topics,),) = [known.values() for known in [json.loads((tmp_path / "measured.json").read_text())]]
    (layers,) = topics.values()
    assert len(layers) == 1


def test_a_resumed_run_keeps_what_it_chose(tmp_path: Path) -> None:
    assert choose(network(), tmp_path, known={"0": "slow_when_small", "1": "slow"}) == {
        "0": "slow_when_small",
        "1": "slow",
    }
    assert not (tmp_path / "measured.json").exists()


def test_where_nothing_is_auto_nothing_is_measured(tmp_path: Path) -> None:
    assert choose(nn.Sequential(StandardConv2d(2, 2, 3)), tmp_path) == {}
    assert not (tmp_path / "measured.json").exists()


def test_implementations_for_other_devices_are_no_candidates() -> None:
    assert "fused" not in medians(WeightedSumConv2d(4, 4, 3, padding=1), torch.randn(1, 4, 5, 5), "none", rounds=1)


def test_a_file_that_cannot_be_written_or_read_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "measured.json").write_text("no json")
    (tmp_path / "file").touch()
    assert choose(network(), tmp_path) == {"0": "slow", "1": "slow_when_small"}
    assert choose(network(), tmp_path / "file") == {"0": "slow", "1": "slow_when_small"}
    assert "set engine.cache to a folder of yours" in caplog.text


def test_a_run_says_what_it_chose_for_each_layer(run_here: Any, results: Any) -> None:
    done = run_here("train", *TINY, "conv=weighted_sum", "conv.implementation=auto", "engine.cache=cache")
    assert done.code == 0, done.err
    assert "9 of 9 convs are weighted_sum (auto: " in done.out
    ((_, result),) = results()
    assert {row["implementation"] for row in result["swap"]} <= {"linear", "pointwise", "folded"}
