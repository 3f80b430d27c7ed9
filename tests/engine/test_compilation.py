"""`engine.compile=auto`: compiled where the run is long enough to earn it back."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convbench.engine.compilation import decide, remember_compiled
from convbench.engine.remembered import Remembered
from tests.conftest import TINY

CPU = torch.device("cpu")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Flatten(), nn.LazyLinear(4))


def test_a_short_run_stays_eager_and_a_long_one_is_compiled(tmp_path: Path) -> None:
    net, batch, known = network(), torch.randn(4, 3, 16, 16), Remembered(tmp_path, CPU)
    net(batch)
    assert not decide(net, batch, "none", 40, 10, known, "small").is_on
    assert not decide(net, batch, "none", 40, 100, known, "small").is_on
    assert not decide(net, batch, "none", 3, 10**9, known, "small").is_on  # three epochs are a trial
    long = decide(net, batch, "none", 40, 10**9, known, "small")
    assert long.is_on
    assert long.why.startswith("yes, it takes about 60 s to save about ")


def test_what_compiling_cost_before_decides(tmp_path: Path) -> None:
    net, batch, known = network(), torch.randn(4, 3, 16, 16), Remembered(tmp_path, CPU)
    net(batch)
    remember_compiled(known, "small", first_step=1e9, step=0.0)
    assert not decide(net, batch, "none", 40, 10**6, known, "small").is_on
    remember_compiled(known, "small", first_step=1e-9, step=0.0)
    assert decide(net, batch, "none", 40, 10**6, known, "small").is_on
    remember_compiled(known, "small", first_step=1e-9, step=1e9)  # where compiled steps are slower
    assert not decide(net, batch, "none", 40, 10**6, known, "small").is_on


def test_deciding_leaves_weights_statistics_gradients_and_random_numbers_alone(tmp_path: Path) -> None:
    net, batch = network(), torch.randn(4, 3, 16, 16)
    net(batch)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    decide(net, batch, "none", 40, 1000, Remembered(tmp_path, CPU), "small")
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_trial_says_that_it_is_eager_and_why(run_here: Any, results: Any) -> None:
    said = run_here("train", *TINY, "engine.compile=auto").out
    assert re.search(r"^device +.*, eager$", said, re.M)
    assert re.search(r"^compile +no, for a trial of 8 steps$", said, re.M)
    ((_, result),) = results()
    assert result["compiled"] is False


@pytest.mark.slow
def test_what_one_run_compiled_the_next_one_finds(
    run_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    words = (*TINY, "engine.compile=true", "engine.cache=cache")
    assert run_module("train", *words, "hydra.run.dir=first").code == 0
    kept = set((tmp_path / "cache" / "compiled").rglob("*.so"))
    assert kept
    assert run_module("train", *words, "hydra.run.dir=second").code == 0
    assert set((tmp_path / "cache" / "compiled").rglob("*.so")) == kept
