"""The console output of a run: a header, a progress bar over the steps, and one row per epoch."""

import contextlib
import logging
import sys
import time

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from convbench.loggers.sink import EpochRow, RunStart, Sink, StepSummary

log = logging.getLogger("convbench")

# Without a terminal, and so without a progress bar, lines show the progress of a long epoch.
_SECONDS_BETWEEN_LINES = 30.0


class Console(Sink):
    """Writes to the terminal and to the log file; without a terminal, plain lines replace the progress bar."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        # Jobs that run in parallel share one terminal. They log only to their files and must not draw progress bars.
        handlers = logging.getLogger().handlers
        self._is_quiet = bool(handlers) and all(isinstance(handler, logging.FileHandler) for handler in handlers)
        self._redirect = contextlib.nullcontext() if self._is_quiet else logging_redirect_tqdm()
        self._stack = contextlib.ExitStack()
        self._last_line = time.monotonic()
        self._epoch = self._steps = 0

    def on_run_start(self, run: RunStart) -> None:
        """Write a line for each fact, and the header of the table of epochs."""
        self._stack.enter_context(self._redirect)
        width = max(map(len, run.facts))
        for name, fact in run.facts.items():
            log.info("%-*s  %s", width, name, fact)
        temperature = f"{'temp.':>7}" if run.has_temperature else ""
        log.info("\n* best validation accuracy so far")
        log.info(
            f"{'epoch':>7}{'train':>9}{'train':>8}{'val':>9}{'val':>8}{'lr':>9}{temperature}{'time':>9}{'images/s':>10}"
        )
        log.info(f"{'':>7}{'loss':>9}{'%':>8}{'loss':>9}{'%':>8}{'':>9}{'' if not temperature else '       '}{'s':>9}")

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        """Create the progress bar of an epoch."""
        self._epoch, self._steps = epoch, steps
        self._bar = tqdm(
            total=steps,
            initial=first,
            desc=f"epoch {epoch}/{epochs}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=True if self._is_quiet else None,  # None disables the bar without a terminal
            file=sys.stderr,
        )

    def on_step(self) -> None:
        """Advance the progress bar."""
        assert self._bar is not None
        self._bar.update()

    def on_summary(self, summary: StepSummary) -> None:
        """Show the running means beside the progress bar, or without a terminal in an occasional line."""
        assert self._bar is not None
        text = f"loss {summary.loss:.3f}, {100 * summary.accuracy:.1f} %"
        if not self._bar.disable:
            self._bar.set_postfix_str(text)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("epoch %d, step %d of %d: %s", self._epoch, summary.index, self._steps, text)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Write the row of an epoch; an asterisk marks the best validation accuracy so far."""
        self._close_bar()
        temperature = f"{row.temperature:7.2f}" if row.temperature is not None else ""
        log.info(
            f"{row.epoch:7d}{row.train_loss:9.4f}{100 * row.train_accuracy:8.2f}{row.val_loss:9.4f}"
            f"{100 * row.val_accuracy:8.2f}{row.lr:9.5f}{temperature}{row.seconds:9.2f}{row.images_per_second:10.0f}"
            f"{' *' if is_best else ''}"
        )
        self._last_line = time.monotonic()

    def close(self) -> None:
        """Remove the progress bar and restore the handlers of the log."""
        self._close_bar()
        self._stack.close()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
