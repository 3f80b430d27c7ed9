"""Tests of `engine.compile`: the decision of `auto`, and the compilation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convbench.errors import UserError
from convbench.tuning.compilation import Compilation, compile_network, decide_compilation, record_compilation
from convbench.tuning.measurements import MeasurementCache
from tests.conftest import TINY

CPU = torch.device("cpu")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Flatten(), nn.LazyLinear(4))


def test_a_short_run_stays_eager_and_a_long_one_is_compiled(tmp_path: Path) -> None:
    net, batch, known = network(), torch.randn(4, 3, 16, 16), MeasurementCache(tmp_path, CPU)
    net(batch)
    assert not decide_compilation(net, batch, "none", 40, 10, known, "small").is_on
    assert not decide_compilation(net, batch, "none", 40, 100, known, "small").is_on
    assert not decide_compilation(net, batch, "none", 3, 10**9, known, "small").is_on  # three epochs count as a trial
    long = decide_compilation(net, batch, "none", 40, 10**9, known, "small")
    assert long.is_on
    assert long.why.startswith("yes")
    assert " 60 s " in long.why  # the default for a network that was never compiled


def test_the_measurements_of_earlier_runs_decide(tmp_path: Path) -> None:
    net, batch, known = network(), torch.randn(4, 3, 16, 16), MeasurementCache(tmp_path, CPU)
    net(batch)
    record_compilation(known, "small", compile_seconds=1e9, step=0.0)
    assert not decide_compilation(net, batch, "none", 40, 10**6, known, "small").is_on
    record_compilation(known, "small", compile_seconds=1e-9, step=0.0)
    assert decide_compilation(net, batch, "none", 40, 10**6, known, "small").is_on
    record_compilation(known, "small", compile_seconds=1e-9, step=1e9)  # compiled steps are slower
    assert not decide_compilation(net, batch, "none", 40, 10**6, known, "small").is_on


def test_the_decision_does_not_change_the_network_or_the_random_numbers(tmp_path: Path) -> None:
    net, batch = network(), torch.randn(4, 3, 16, 16)
    net(batch)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    decide_compilation(net, batch, "none", 40, 1000, MeasurementCache(tmp_path, CPU), "small")
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_short_run_prints_that_it_is_not_compiled_and_why(run_here: Any, results: Any) -> None:
    output = run_here("train", *TINY, "engine.compile=auto").out
    assert re.search(r"^device +.*, eager$", output, re.M)
    assert re.search(r"^compile +no, .*\b8 steps\b", output, re.M)
    ((_, result),) = results()
    assert result["compiled"] is False


class Uncompilable(nn.Sequential):
    """A network whose compilation starts and then fails."""

    def compile(self, **options: Any) -> None:
        def failing_backend(graph: Any, inputs: Any) -> Any:
            raise NotImplementedError("no such operator")

        super().compile(backend=failing_backend)


def test_a_network_that_cannot_be_compiled_stays_eager_and_unchanged(fresh_compiler: None) -> None:
    net, batch = Uncompilable(*network()), torch.randn(4, 3, 16, 16)
    net(batch)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    compilation = compile_network(Compilation("small", True), net, batch, "none", is_required=False)
    assert not compilation.is_on
    assert compilation.seconds is None
    assert "no such operator" in compilation.why
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    net(batch).sum().backward()


def test_a_required_compilation_that_fails_is_an_error_with_its_cause_and_the_key(fresh_compiler: None) -> None:
    net, batch = Uncompilable(*network()), torch.randn(4, 3, 16, 16)
    net(batch)
    with pytest.raises(UserError, match=r"no such operator.*\(engine\.compile\)$"):
        compile_network(Compilation("small", True), net, batch, "none", is_required=True)


@pytest.mark.parametrize("arguments", [("engine.compile=true",), ("conv=from_scratch", "conv.implementation=fused")])
def test_options_that_need_a_cpp_compiler_are_refused_without_one(
    run_module: Any, tmp_path: Path, arguments: Any
) -> None:
    tools = {"CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "empty")}
    done = run_module("train", *TINY, "model.widths=[2,2,2]", *arguments, **tools)  # fused supports few channels
    assert done.code == 2
    assert "/nowhere/c++" in done.err
    assert arguments[-1].partition("=")[0] in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("content", ["[]", "{WHERE: 3}", "{WHERE: {TOPIC: []}}", "{WHERE: {TOPIC: {KEY: null}}}"])
def test_a_file_of_measurements_with_another_structure_is_ignored_and_overwritten(tmp_path: Path, content: str) -> None:
    known = MeasurementCache(tmp_path, CPU)
    for name, value in (("WHERE", known.where), ("TOPIC", "topic"), ("KEY", "key")):
        content = content.replace(name, json.dumps(value))
    known.path.write_text(content)
    assert known.get("topic", "key") is None
    known.put("topic", "key", {"step": 1.0})
    assert known.get("topic", "key") == {"step": 1.0}


@pytest.mark.slow
def test_a_run_reuses_the_compiled_code_of_an_earlier_run(
    run_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    arguments = (*TINY, "engine.compile=true", "engine.cache=cache")
    assert run_module("train", *arguments, "hydra.run.dir=first").code == 0
    libraries = set((tmp_path / "cache" / "compiled").rglob("*.so"))
    assert libraries
    (topics,) = json.loads((tmp_path / "cache" / "measured.json").read_text()).values()
    ((measured,),) = (topic.values() for name, topic in topics.items() if "compiled" in name)
    assert measured["step"] < measured["compile"] / 10, "the time of the epochs does not include the compilation"
    assert run_module("train", *arguments, "hydra.run.dir=second").code == 0
    assert set((tmp_path / "cache" / "compiled").rglob("*.so")) == libraries
