"""Memory at its peak: tensors on a GPU, the whole process elsewhere, where the operating system tells it."""

import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Of Linux: writing 5 sets the high-water mark of this process, VmHWM, to what it holds now (man 5 proc).
_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` count from here: earlier jobs of a sweep ran in the same process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # on other systems than Linux it goes on counting
            (_PROCESS / "clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """The most bytes held so far: tensors on a GPU, else the whole process; None where the system tells nothing."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_bytes("VmHWM")


def peak_memory_of(call: Callable[[], object], device: torch.device) -> int | None:
    """How many more bytes are held at the peak of a call than before it; None where the system tells nothing."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        reset_peak_memory(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not _PROCESS.exists():
        return None
    _libc().malloc_trim(0)  # what the allocator kept of earlier calls would be used again, and not seen
    reset_peak_memory(device)
    resident = _process_bytes("VmRSS")
    call()
    peak = _process_bytes("VmHWM")
    return None if peak is None or resident is None else max(0, peak - resident)


def _process_bytes(key: str) -> int | None:
    """The memory of this process: `VmRSS`, what it holds now, or `VmHWM`, the most that it held."""
    if (_PROCESS / "status").exists():
        line = next(line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith(key))
        return 1024 * int(line.split()[1])
    if key != "VmHWM" or sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kilobytes everywhere but there


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
