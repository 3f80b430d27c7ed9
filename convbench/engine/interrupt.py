"""Ctrl-C, SIGTERM and a batch system's warning end a run at the next step, with a checkpoint."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger("convbench")

# What submitit has Slurm send before the time is up. Its handler puts the job back into the queue and ends the process.
BATCH_SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR2", None)


class TimeIsUpError(KeyboardInterrupt):
    """A run was stopped by the batch system's warning, whose handler has not been called yet."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does: batch systems send it where people press keys."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only, and refuses handlers set elsewhere
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def pass_on(stop: BaseException) -> None:
    """Let the batch system's handler do its work, now that the checkpoint is written.

    Args:
        stop: what ended the run; anything but a batch system's warning is left alone.

    Raises:
        SystemExit: by the handler, if the job has been put back into the queue.
        Exception: by the handler, if it has not.
    """
    if isinstance(stop, TimeIsUpError) and BATCH_SIGNAL is not None:
        signal.raise_signal(BATCH_SIGNAL)


class StopRequest:
    """A context in which the first signal only sets `requested`; a second SIGINT or SIGTERM interrupts at once.

    The batch system's warning counts where somebody handles it already, and the context ends with `TimeIsUpError` then.
    """

    def __init__(self) -> None:
        self.requested = False
        self._time_is_up = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
            if BATCH_SIGNAL is not None and callable(signal.getsignal(BATCH_SIGNAL)):
                self._before[BATCH_SIGNAL] = signal.signal(BATCH_SIGNAL, self._on_batch_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._time_is_up and isinstance(error, KeyboardInterrupt):
            raise TimeIsUpError from error

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self._ask()

    def _on_batch_signal(self, number: int, frame: FrameType | None) -> None:
        self._time_is_up = True
        if not self.requested:
            self._ask()

    def _ask(self) -> None:
        self.requested = True
        log.info("stopping after this step, with a checkpoint (again: at once)")
