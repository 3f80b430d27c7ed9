"""`engine.compile=auto`: compiled where the run is long enough to earn it back."""

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
    assert not decide_compilation(net, batch, "none", 3, 10**9, known, "small").is_on  # three epochs are a trial
    long = decide_compilation(net, batch, "none", 40, 10**9, known, "small")
    assert long.is_on
    assert long.why.startswith("yes, it takes about 60 s to save about ")


def test_what_compiling_cost_before_decides(tmp_path: Path) -> None:
    net, batch, known = network(), torch.randn(4, 3, 16, 16), MeasurementCache(tmp_path, CPU)
    net(batch)
    record_compilation(known, "small", compile_seconds=1e9, step=0.0)
    assert not decide_compilation(net, batch, "none", 40, 10**6, known, "small").is_on
    record_compilation(known, "small", compile_seconds=1e-9, step=0.0)
    assert decide_compilation(net, batch, "none", 40, 10**6, known, "small").is_on
    record_compilation(known, "small", compile_seconds=1e-9, step=1e9)  # where compiled steps are slower
    assert not decide_compilation(net, batch, "none", 40, 10**6, known, "small").is_on


def test_deciding_leaves_weights_statistics_gradients_and_random_numbers_alone(tmp_path: Path) -> None:
    net, batch = network(), torch.randn(4, 3, 16, 16)
    net(batch)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    decide_compilation(net, batch, "none", 40, 1000, MeasurementCache(tmp_path, CPU), "small")
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_trial_says_that_it_is_eager_and_why(run_here: Any, results: Any) -> None:
    said = run_here("train", *TINY, "engine.compile=auto").out
    assert re.search(r"^device +.*, eager$", said, re.M)
    assert re.search(r"^compile +no, for a trial of 8 steps$", said, re.M)
    ((_, result),) = results()
    assert result["compiled"] is False


class Uncompilable(nn.Sequential):
    """The compiler takes it, and then cannot go on."""

    def compile(self, **options: Any) -> None:
        def broken(graph: Any, inputs: Any) -> Any:
            raise NotImplementedError("no such operator")

        super().compile(backend=broken)


def test_a_network_that_cannot_be_compiled_stays_eager_and_as_it_was(fresh_compiler: None) -> None:
    net, batch = Uncompilable(*network()), torch.randn(4, 3, 16, 16)
    net(batch)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    came = compile_network(Compilation("small", True), net, batch, "none", is_required=False)
    assert not came.is_on
    assert came.seconds is None
    assert "no such operator" in came.why
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    net(batch).sum().backward()


def test_a_compilation_that_was_asked_for_and_fails_is_an_error_that_names_the_key(fresh_compiler: None) -> None:
    net, batch = Uncompilable(*network()), torch.randn(4, 3, 16, 16)
    net(batch)
    with pytest.raises(UserError, match=r"no such operator.*engine\.compile"):
        compile_network(Compilation("small", True), net, batch, "none", is_required=True)


@pytest.mark.parametrize("words", [("engine.compile=true",), ("conv=from_scratch", "conv.implementation=fused")])
def test_without_a_compiler_what_needs_one_gets_a_sentence(run_module: Any, tmp_path: Path, words: Any) -> None:
    tools = {"CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "empty")}
    done = run_module("train", *TINY, "model.widths=[2,2,2]", *words, **tools)  # as few channels as fused takes
    assert done.code == 2
    assert "/nowhere/c++" in done.err
    assert words[-1].partition("=")[0] in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("content", ["[]", "{WHERE: 3}", "{WHERE: {TOPIC: []}}", "{WHERE: {TOPIC: {KEY: null}}}"])
def test_a_file_of_measurements_of_another_shape_counts_as_none_and_is_written_over(
    tmp_path: Path, content: str
) -> None:
    known = MeasurementCache(tmp_path, CPU)
    for name, value in (("WHERE", known.where), ("TOPIC", "topic"), ("KEY", "key")):
        content = content.replace(name, json.dumps(value))
    known.path.write_text(content)
    assert known.get("topic", "key") is None
    known.put("topic", "key", {"step": 1.0})
    assert known.get("topic", "key") == {"step": 1.0}


@pytest.mark.slow
def test_what_one_run_compiled_the_next_one_finds(
    run_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    words = (*TINY, "engine.compile=true", "engine.cache=cache")
    assert run_module("train", *words, "hydra.run.dir=first").code == 0
    kept = set((tmp_path / "cache" / "compiled").rglob("*.so"))
    assert kept
    (found,) = json.loads((tmp_path / "cache" / "measured.json").read_text()).values()
    ((measured,),) = (topic.values() for name, topic in found.items() if "compiled" in name)
    assert measured["step"] < measured["compile"] / 10, "the epochs hold no compilation"
    assert run_module("train", *words, "hydra.run.dir=second").code == 0
    assert set((tmp_path / "cache" / "compiled").rglob("*.so")) == kept
