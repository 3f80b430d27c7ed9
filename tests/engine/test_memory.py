"""The peak of memory, of a process and of a call."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convbench.engine.memory import peak_memory, peak_memory_of

CPU, MEGABYTE = torch.device("cpu"), 2**20


def test_what_a_call_holds_at_its_peak_is_seen_and_what_others_held_is_not() -> None:
    def call() -> None:
        torch.ones(64 * MEGABYTE, dtype=torch.uint8)

    torch.ones(256 * MEGABYTE, dtype=torch.uint8)
    for _ in range(2):
        peak = peak_memory_of(call, torch.device("cpu"))
        assert peak is not None
        assert 60 * MEGABYTE < peak < 80 * MEGABYTE


def test_the_peak_of_memory_is_in_bytes() -> None:
    # PyTorch alone takes more than 50 MB, and no test machine holds 1 TB
    assert 50e6 < peak_memory(CPU) < 1e12


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the mark can be set back on Linux only")
def test_peak_memory_counts_from_where_it_was_reset():
    """In a process of its own, whose memory nothing else fills."""
    script = (
        "import torch\n"
        "from convbench.engine.memory import peak_memory, reset_peak_memory\n"
        "device = torch.device('cpu')\n"
        "held = torch.ones(100_000_000)\n"
        "del held\n"
        "before = peak_memory(device)\n"
        "reset_peak_memory(device)\n"
        "print(before - peak_memory(device))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 3e8 < float(done.stdout) < 5e8
