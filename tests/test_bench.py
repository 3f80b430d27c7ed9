"""`python -m convbench.bench`: its output folder, and errors in its keys."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig


@pytest.mark.parametrize("suite", ["layers", "loop"])
def test_the_suite_writes_to_the_output_folder(run_here: Any, monkeypatch: pytest.MonkeyPatch, suite: str) -> None:
    calls = []

    def run_suite(config: DictConfig, folder: Path) -> None:
        calls.append((config.suite, config.layers.rounds, folder))

    monkeypatch.setattr(f"convbench.benchmarks.{suite}_suite.run_{suite}", run_suite)
    done = run_here("bench", f"suite={suite}", "layers.rounds=2", "output=measured")
    assert done.code == 0, done.err
    assert calls == [(suite, 2, Path("measured"))]
    assert "measured" in done.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["suite=speed"], ["suite=speed", "layers", "loop"]),
        (["layers.convs=[magic]"], ["'magic'", "blueprint_s", "(layers.convs)"]),
        (["layers.networks=[lenet]"], ["'lenet'", "resnet14", "image", "(layers.networks)"]),
        (["suite=loop", "loop.rungs=left", "data.train=200"], ["loop.rungs=left", "all", "up", "down"]),
    ],
)
def test_an_unknown_value_is_an_error_with_the_value_the_options_and_the_key(
    run_here: Any, arguments: list[str], facts: list[str]
) -> None:
    done = run_here("bench", *arguments)
    assert done.code == 2
    assert all(fact in done.err for fact in facts), done.err
