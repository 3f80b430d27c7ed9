"""One seed, many independent streams: each use of chance draws from a generator of its own."""

import hashlib

import torch


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from any parts, the same in every process and on every platform (Python's `hash` is neither)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def stream(*parts: object) -> torch.Generator:
    """A CPU generator for one purpose, such as `stream(seed, "flip", epoch)`.

    Streams are on the CPU whatever the device, so that a GPU sees the same draws as a laptop; and they start anew each
    epoch, so that a resumed run needs no generator state to draw on.
    """
    return torch.Generator().manual_seed(stable_seed(*parts))
