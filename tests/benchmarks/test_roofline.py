"""What the device can do at most."""

import pytest
import torch

from convbench.benchmarks.roofline import Roofline, measure_roofline


def test_the_slower_of_arithmetic_and_memory_decides() -> None:
    ceiling = Roofline(flops=100.0, bandwidth=10.0)
    assert ceiling.least_seconds(flops=200, traffic=5) == 2
    assert ceiling.least_seconds(flops=200, traffic=50) == 5


@pytest.mark.parametrize("precision", ["none", "bf16"])
def test_it_is_measured_in_plausible_numbers(precision: str) -> None:
    ceiling = measure_roofline(torch.device("cpu"), precision, rounds=1)
    assert 1e8 < ceiling.flops < 1e15
    assert 1e8 < ceiling.bandwidth < 1e13
