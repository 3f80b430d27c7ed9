"""The roofline of a device: its arithmetic throughput in a matrix product, and its memory bandwidth in a copy."""

from dataclasses import dataclass

import torch

from convbench.engine.device import AUTOCAST
from convbench.tuning.clock import time_interleaved

_SIDE = {"cuda": 8192}  # rows and columns of the square matrices, by device type
_DEFAULT_SIDE = 1024
_BYTES = {"cuda": 2**30}  # size of the copied tensor, by device type
_DEFAULT_BYTES = 2**28  # larger than the caches of a CPU


@dataclass(frozen=True)
class Roofline:
    """The measured limits of a device.

    Attributes:
        flops: floating-point operations per second; a multiply-accumulate operation counts as two.
        bandwidth: memory bandwidth, reads plus writes, in bytes per second.
    """

    flops: float
    bandwidth: float

    def least_seconds(self, flops: float, traffic: float) -> float:
        """The least time for `flops` operations and `traffic` bytes, in seconds: the larger of the two times."""
        return max(flops / self.flops, traffic / self.bandwidth)


def measure_roofline(device: torch.device, precision: str, rounds: int = 7) -> Roofline:
    """Measure a matrix product of random numbers, and a copy.

    Args:
        device: device to measure.
        precision: precision of the product: `none` (float32), `bf16` or `fp16`.
        rounds: number of repetitions, of which the median is used.
    """
    side = _SIDE.get(device.type, _DEFAULT_SIDE)
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    source = torch.randn(_BYTES.get(device.type, _DEFAULT_BYTES) // 4, device=device)
    target = torch.empty_like(source)
    dtype = AUTOCAST[precision]
    if dtype is not None:
        a, b = a.to(dtype), b.to(dtype)
    times = time_interleaved({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, device, rounds)
    return Roofline(
        flops=2 * side**3 / times["product"].median,
        bandwidth=2 * source.numel() * source.element_size() / times["copy"].median,
    )
