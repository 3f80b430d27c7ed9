"""Peak memory: of the tensors on a GPU, or of the whole process on other devices, if the system reports it."""

import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Linux only. Writing 5 to clear_refs sets the peak resident size, VmHWM, to the current resident size (man 5 proc).
_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Reset the value of `peak_memory`, which may come from an earlier job of a sweep in the same process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # only Linux can reset the peak
            (_PROCESS / "clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Peak memory of the tensors on a GPU, else of the process, in bytes; None if the system does not report it."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_bytes("VmHWM")


def peak_memory_of(call: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory of a call above the memory held before it, in bytes; None if the system does not report it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        reset_peak_memory(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not _PROCESS.exists():
        return None
    # Return free memory to the system: a call that reuses it would not raise the resident size.
    _libc().malloc_trim(0)
    reset_peak_memory(device)
    resident = _process_bytes("VmRSS")
    call()
    peak = _process_bytes("VmHWM")
    return None if peak is None or resident is None else max(0, peak - resident)


def _process_bytes(key: str) -> int | None:
    """Resident memory of this process in bytes: the current one for `VmRSS`, the peak for `VmHWM`."""
    if (_PROCESS / "status").exists():
        line = next(line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith(key))
        return 1024 * int(line.split()[1])
    if key != "VmHWM" or sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes on macOS, kilobytes on other systems


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
