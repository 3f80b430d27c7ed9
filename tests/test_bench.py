"""`python -m convbench.bench`: tables for a person, files for everything else."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

SMALL = ("layers.convs=[standard,weighted_sum]", "layers.networks=[resnet8]", "layers.batch_size=2", "layers.rounds=2")


def test_layers_are_measured_shown_sorted_and_written(run_here: Any, tmp_path: Path) -> None:
    done = run_here("bench", *SMALL, "output=measured")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    with (tmp_path / "measured" / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["direction"] for row in rows} == {"forward", "training"}
    assert {(row["conv"], row["implementation"]) for row in rows} == {
        ("standard", "library"), ("standard", "winograd"), ("weighted_sum", "linear"), ("weighted_sum", "pointwise"),
        ("weighted_sum", "folded"),
    }  # fmt: skip
    assert all(float(row["seconds"]) > 0 for row in rows)
    measured = json.loads((tmp_path / "measured" / "layers.json").read_text())
    totals = measured["totals"]
    assert [row["training_seconds"] for row in totals] == sorted(row["training_seconds"] for row in totals)
    assert [f"{row['conv']} {row['implementation']}" for row in totals] == [
        " ".join(line.split()[:2]) for line in done.out.splitlines() if line.startswith(("standard ", "weighted_sum "))
    ]
    assert measured["ceilings"]["none"]["flops"] > 0
    assert measured["device"]
    assert (tmp_path / "measured" / "layers_resnet8.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["suite=speed"], "suite=speed is out of range: give one of layers, loop"),
        (["layers.convs=[magic]"], "there is no convolution 'magic'; choose blueprint_s,"),
        (["layers.networks=[lenet]"], "there are no layers of 'lenet'; choose resnet14, resnet20, resnet18 or image"),
        (
            ["suite=loop", "loop.rungs=left", "data.train=200"],
            "loop.rungs=left is out of range",
        ),
    ],
)
def test_what_does_not_exist_is_told_in_a_sentence(run_here: Any, arguments: list[str], sentence: str) -> None:
    done = run_here("bench", *arguments)
    assert done.code == 2
    assert sentence in done.err


@pytest.mark.slow
def test_the_ladder_has_a_rung_for_each_technique_and_one_without_each(run_module: Any, tmp_path: Path) -> None:
    small = ("model.depth=8", "model.widths=[8,8,8]", "data.train=256", "data.val=20", "data.test=20", "batch_size=32")
    auto = ("conv=weighted_sum", "conv.implementation=auto")
    done = run_module("bench", "suite=loop", *small, *auto, "loop.rounds=1", "loop.steps=1", "output=measured")
    assert done.code == 0, done.err
    rungs = json.loads((tmp_path / "measured" / "loop.json").read_text())["rungs"]
    names = [rung["rung"] for rung in rungs]
    up = [name.removeprefix("+ ") for name in names if name.startswith("+ ")]
    assert names[0] == "the usual script"
    assert up[-2:] == ["fastest implementations", "compile"]
    assert [name.removeprefix("without ") for name in names if name.startswith("without ")] == up
    assert names[-3:] == ["bare loop", "convbench.train, compiled", "convbench.train, eager"]
    assert rungs[0]["times_the_usual"] == 1
    assert (tmp_path / "measured" / "loop.png").stat().st_size > 5000
