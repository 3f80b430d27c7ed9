"""What a device can do at most: products in a large matrix product, bytes in a large copy."""

from dataclasses import dataclass

import torch

from convbench.engine.device import AUTOCAST
from convbench.tuning.clock import in_turns

_SIDE = {"cuda": 8192}  # of the matrices; elsewhere:
_SIDE_ELSEWHERE = 1024
_BYTES = {"cuda": 2**30}  # of the copied tensor; elsewhere:
_BYTES_ELSEWHERE = 2**28  # more than caches hold


@dataclass(frozen=True)
class Roofline:
    """The most that was measured.

    Attributes:
        flops: floating-point operations a second, two for a multiplication and its addition.
        bandwidth: bytes a second, read and written.
    """

    flops: float
    bandwidth: float

    def least_seconds(self, flops: float, traffic: float) -> float:
        """How long so many operations over so many bytes take at least: as long as the slower of the two."""
        return max(flops / self.flops, traffic / self.bandwidth)


def measure_roofline(device: torch.device, precision: str, rounds: int = 7) -> Roofline:
    """Time a matrix product of random numbers and a copy on the device.

    Args:
        device: to measure.
        precision: `none`, `bf16` or `fp16`, of the product.
        rounds: measurements, of which the median counts.
    """
    side = _SIDE.get(device.type, _SIDE_ELSEWHERE)
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    source = torch.randn(_BYTES.get(device.type, _BYTES_ELSEWHERE) // 4, device=device)
    target = torch.empty_like(source)
    dtype = AUTOCAST[precision]
    if dtype is not None:
        a, b = a.to(dtype), b.to(dtype)
    times = in_turns({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, device, rounds)
    return Roofline(
        flops=2 * side**3 / times["product"].median,
        bandwidth=2 * source.numel() * source.element_size() / times["copy"].median,
    )
