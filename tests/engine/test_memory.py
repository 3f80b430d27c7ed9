"""Tests of the peak memory of a process and of a call."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convbench.engine.memory import peak_memory, peak_memory_of

CPU, MEGABYTE = torch.device("cpu"), 2**20


def test_peak_memory_of_measures_the_call_and_not_earlier_allocations() -> None:
    def call() -> None:
        torch.ones(64 * MEGABYTE, dtype=torch.uint8)

    torch.ones(256 * MEGABYTE, dtype=torch.uint8)
    for _ in range(2):
        peak = peak_memory_of(call, torch.device("cpu"))
        assert peak is not None
        assert 60 * MEGABYTE < peak < 80 * MEGABYTE


def test_peak_memory_is_in_bytes() -> None:
    # PyTorch alone needs more than 50 MB, and no test machine has 1 TB.
    assert 50e6 < peak_memory(CPU) < 1e12


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak")
def test_peak_memory_is_measured_since_the_last_reset() -> None:
    """A separate process is measured, because other tests allocate memory in this one."""
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
