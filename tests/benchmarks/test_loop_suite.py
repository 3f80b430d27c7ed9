"""The suite `loop`: its loops and its files."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_the_ablation_adds_each_technique_to_the_baseline_and_removes_each_from_the_full_set(
    run_module: Any, tmp_path: Path
) -> None:
    small = ("model.depth=8", "model.widths=[8,8,8]", "data.train=256", "data.val=20", "data.test=20", "batch_size=32")
    auto = ("conv=weighted_sum", "conv.implementation=auto")
    done = run_module("bench", "suite=loop", *small, *auto, "loop.rounds=1", "loop.steps=1", "output=measured")
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "measured" / "loop.json").read_text())["rungs"]
    names = [row["rung"] for row in rows]
    added = [name.removeprefix("+ ") for name in names if name.startswith("+ ")]
    assert names[0] == "the usual script"
    assert added[-2:] == ["fastest implementations", "compile"]
    assert [name.removeprefix("without ") for name in names if name.startswith("without ")] == added
    assert names[-3:] == ["bare loop", "convbench.train, compiled", "convbench.train, eager"]
    assert rows[0]["times_the_usual"] == 1
    assert (tmp_path / "measured" / "loop.png").stat().st_size > 5000
