"""The peak of a call, which what was freed before or after it must not change."""

import torch

from convbench.engine.memory import peak_memory_of

MEGABYTE = 2**20


def test_what_a_call_holds_at_its_peak_is_seen_and_what_others_held_is_not() -> None:
    def call() -> None:
        torch.ones(64 * MEGABYTE, dtype=torch.uint8)

    torch.ones(256 * MEGABYTE, dtype=torch.uint8)
    for _ in range(2):
        peak = peak_memory_of(call, torch.device("cpu"))
        assert peak is not None
        assert 60 * MEGABYTE < peak < 80 * MEGABYTE
