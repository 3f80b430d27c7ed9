"""Every convolution learns the data set `shapes`."""

from typing import Any

import pytest

from convbench.config.options import options

CHANCE = 0.1
COMPILED = ("standard", "weighted_sum", "dynamic", "blueprint_s", "coordconv", "weight_standardised", "partial")
SLOW = ("deformable",)  # takes a minute on a CPU
SHORT = ("data=shapes", "data.image_size=16", "data.train=3000", "data.val=100", "data.test=500")
SHORT += ("epochs=2", "model.depth=8", "batch_size=64")


def accuracy(outcome: Any, results: Any) -> float:
    assert outcome.code == 0, outcome.err
    ((_, result),) = results()
    assert any(row["status"] == "swapped" for row in result["swap"])
    return result["test"]["accuracy"]


@pytest.mark.parametrize(
    "conv", [pytest.param(conv, marks=pytest.mark.slow if conv in SLOW else ()) for conv in options("conv")]
)
def test_every_convolution_learns_the_shapes_in_two_epochs(run_here: Any, results: Any, conv: str) -> None:
    outcome = run_here("train", f"conv={conv}", *SHORT)
    assert accuracy(outcome, results) > 3 * CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("conv", COMPILED)
def test_a_compiled_convolution_learns_the_shapes_in_two_epochs(run_module: Any, results: Any, conv: str) -> None:
    outcome = run_module("train", f"conv={conv}", *SHORT, "engine.compile=true")
    assert accuracy(outcome, results) > 3 * CHANCE
