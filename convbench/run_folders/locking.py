"""Locks between processes, on a file: held until the context ends or the process does."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from convbench.errors import UserError

_PROBES = 3
_SECONDS_BETWEEN_PROBES = 0.02


class InUseError(UserError):
    """Another process is working in a folder."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for as long as the context lasts; a file system without locks grants it to everybody.

    Raises:
        InUseError: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with contextlib.suppress(OSError, NotImplementedError):
        # Another process may probe the lock at this very moment: it is tried again for a tenth of a second.
        try:
            lock.acquire(timeout=0.1, poll_interval=0.02)
        except Timeout:
            raise InUseError(f"another process is working in {path.parent}; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False where the file does not exist or cannot be locked."""
    if not path.exists():
        return False
    for probe in range(_PROBES):
        if probe:  # the process that held it may only have asked, too
            time.sleep(_SECONDS_BETWEEN_PROBES)
        try:
            with FileLock(path).acquire(blocking=False):
                return False
        except Timeout:
            continue
        except (OSError, NotImplementedError):
            return False
    return True
