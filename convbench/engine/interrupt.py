"""Signal handling: SIGINT, SIGTERM and the warning of a batch system stop a run after a step, with a checkpoint."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger("convbench")

# The signal that Slurm sends before the time limit of a job, as submitit configures it. The handler of submitit
# requeues the job and ends the process. Windows has no such signal.
BATCH_SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR2", None)


class TimeIsUpError(KeyboardInterrupt):
    """The warning of the batch system stopped the run; the handler of the batch system has not been called yet."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """A context in which SIGTERM, which batch systems send, raises KeyboardInterrupt as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals only to the main thread and does not allow other threads to set handlers
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def call_batch_handler(stop: BaseException) -> None:
    """Call the handler of the batch system, now that the checkpoint is written.

    Args:
        stop: The exception that ended the run. Exceptions other than `TimeIsUpError` are ignored.

    Raises:
        SystemExit: The handler has requeued the job.
        Exception: The handler could not requeue the job.
    """
    if isinstance(stop, TimeIsUpError) and BATCH_SIGNAL is not None:
        signal.raise_signal(BATCH_SIGNAL)


class StopRequest:
    """A context in which the first signal only sets `requested`; a second SIGINT or SIGTERM interrupts at once.

    The warning of a batch system is handled only if a handler for it is installed already. Then the context ends with
    `TimeIsUpError`.

    Attributes:
        requested: Whether a signal has asked the run to stop.
    """

    def __init__(self) -> None:
        self.requested = False
        self._has_batch_warning = False
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
            if BATCH_SIGNAL is not None and callable(signal.getsignal(BATCH_SIGNAL)):
                self._previous_handlers[BATCH_SIGNAL] = signal.signal(BATCH_SIGNAL, self._on_batch_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        if self._has_batch_warning and isinstance(error, KeyboardInterrupt):
            raise TimeIsUpError from error

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self._request()

    def _on_batch_signal(self, number: int, frame: FrameType | None) -> None:
        self._has_batch_warning = True
        if not self.requested:
            self._request()

    def _request(self) -> None:
        self.requested = True
        log.info("stopping after this step, with a checkpoint (send the signal again to stop at once)")
