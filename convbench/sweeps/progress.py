"""How a sweep goes: done, running, failed, left, and the time left; read from the folders of its jobs alone."""

import logging
import sys
import threading
import time
from pathlib import Path

from convbench.logs.files import RunFolder
from convbench.sweeps.jobs import results_of

log = logging.getLogger("convbench")

_SECONDS_BETWEEN_LOOKS = 2.0


class Progress:
    """Counts jobs by what their folders say.

    Args:
        folder: of the sweep.
        jobs: how many there will be; None where nobody knows.
    """

    def __init__(self, folder: Path, jobs: int | None) -> None:
        self.folder = folder
        self.jobs = jobs
        self._began = time.monotonic()
        self._done_before = self._count()["finished"]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def line(self) -> str:
        """For a person: `sweep ablation: 3 done, 1 running, 0 failed, 5 left, about 4 min left`."""
        count = self._count()
        said = f"sweep {self.folder.name}: {count['finished']} done, {count['running']} running, {count['failed']} failed"
        if self.jobs is None:
            return said
        left = max(self.jobs - sum(count.values()), 0)
        said += f", {left} left"
        done_now = count["finished"] - self._done_before
        if done_now and left + count["running"]:
            seconds = (time.monotonic() - self._began) / done_now * (left + count["running"])
            said += f", about {duration(seconds)} to go"
        return said

    def start(self) -> None:
        """Say it whenever it changes: on a terminal in one line that stays, elsewhere line by line."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say no more."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        last, is_terminal = "", sys.stderr.isatty()
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            line = self.line()
            if is_terminal:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
            elif line.partition(", about")[0] != last.partition(", about")[0]:
                log.info("%s", line)
            last = line
        if is_terminal and last:
            sys.stderr.write("\r\x1b[K")

    def _count(self) -> dict[str, int]:
        count = {"finished": 0, "running": 0, "failed": 0}
        for folder, results in results_of(self.folder):
            status = results.get("status")
            if status == "running" and not RunFolder(folder).is_locked:
                continue  # killed: left to do
            if status in count:
                count[status] += 1
        return count


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
