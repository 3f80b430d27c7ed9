"""How much memory a call takes at its peak, as the device or the operating system sees it."""

import ctypes
import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_PROCESS = Path("/proc/self")


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """How much more memory is held at the peak of a call than before it; None where the system does not say."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not _PROCESS.exists():
        return None
    _libc().malloc_trim(0)  # what the allocator kept of earlier calls would be used again, and not seen
    (_PROCESS / "clear_refs").write_text("5")  # sets the peak to what is held now
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    line = next(line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)
