"""File locks between processes; the operating system releases them when the context or the process ends."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from convbench.errors import UserError

_ATTEMPTS = 3
_SECONDS_BETWEEN_ATTEMPTS = 0.02


class InUseError(UserError):
    """Another process holds the lock of a folder."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file while the context is active.

    On a file system that does not support locks, every process is let in.

    Raises:
        InUseError: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with contextlib.suppress(OSError, NotImplementedError):
        # Retry for a tenth of a second, because `is_locked` in another process holds the lock for a moment.
        try:
            lock.acquire(timeout=0.1, poll_interval=0.02)
        except Timeout:
            raise InUseError(f"another process is working in {path.parent}; wait until it ends, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False if the file does not exist or cannot be locked."""
    if not path.exists():
        return False
    for attempt in range(_ATTEMPTS):
        if attempt:  # the lock may have been held only by another call of this function
            time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
        try:
            with FileLock(path).acquire(blocking=False):
                return False
        except Timeout:
            continue
        except (OSError, NotImplementedError):
            return False
    return True
