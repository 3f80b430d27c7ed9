"""Independent random streams from one seed: each random decision draws from a separate generator."""

import hashlib

import torch


def stable_seed(*parts: object) -> int:
    """Hash the parts to a 63-bit seed that is equal in all processes and on all platforms, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def stream(*parts: object) -> torch.Generator:
    """CPU generator for one purpose, for example `stream(seed, "flip", epoch)`.

    The generator is always on the CPU, so that a GPU run has the same draws as a CPU run. Each epoch has a new stream,
    so that a run can be resumed without the state of a generator.
    """
    return torch.Generator().manual_seed(stable_seed(*parts))
