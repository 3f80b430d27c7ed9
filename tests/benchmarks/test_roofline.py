"""The roofline of a device."""

import pytest
import torch

from convbench.benchmarks.roofline import Roofline, measure_roofline


def test_the_least_time_is_the_larger_of_arithmetic_and_memory_time() -> None:
    roofline = Roofline(flops=100.0, bandwidth=10.0)
    assert roofline.least_seconds(flops=200, traffic=5) == 2
    assert roofline.least_seconds(flops=200, traffic=50) == 5


@pytest.mark.parametrize("precision", ["none", "bf16"])
def test_measured_limits_are_plausible(precision: str) -> None:
    roofline = measure_roofline(torch.device("cpu"), precision, rounds=1)
    assert 1e8 < roofline.flops < 1e15
    assert 1e8 < roofline.bandwidth < 1e13
