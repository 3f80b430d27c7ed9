"""The suite `layers`: its table and its files."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from convbench.benchmarks.layers_suite import run_layers
from convbench.errors import UserError
from tests.benchmarks.configuration import bench_config

SMALL = ("layers.convs=[standard,weighted_sum]", "layers.networks=[resnet8]", "layers.batch_size=2", "layers.rounds=2")


def test_layers_are_measured_and_printed_in_order_of_time(tmp_path: Path, run_here: Any) -> None:
    done = run_here("bench", "suite=layers", *SMALL, "output=measured")
    assert done.code == 0, done.err
    lines, measured_folder = done.out.splitlines(), tmp_path / "measured"
    assert "measured" in lines[-1]
    assert max(map(len, lines)) <= 100
    with (measured_folder / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["direction"] for row in rows} == {"forward", "training"}
    assert {(row["conv"], row["implementation"]) for row in rows} == {
        ("standard", "library"), ("standard", "winograd"), ("weighted_sum", "linear"), ("weighted_sum", "pointwise"),
        ("weighted_sum", "folded"),
    }  # fmt: skip
    assert all(float(row["seconds"]) > 0 for row in rows)
    measured = json.loads((measured_folder / "layers.json").read_text())
    totals = measured["totals"]
    assert [row["training_seconds"] for row in totals] == sorted(row["training_seconds"] for row in totals)
    assert [f"{row['conv']} {row['implementation']}" for row in totals] == [
        " ".join(line.split()[:2]) for line in lines if line.startswith(("standard ", "weighted_sum "))
    ]
    assert measured["ceilings"]["none"]["flops"] > 0
    assert measured["device"]
    assert (measured_folder / "layers_resnet8.png").stat().st_size > 5000


def test_an_unknown_convolution_is_an_error_that_names_the_key_and_the_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'magic'.*blueprint_s.*\(layers\.convs\)"):
        run_layers(bench_config("layers.convs=[magic]"), tmp_path)
    assert not list(tmp_path.iterdir())
