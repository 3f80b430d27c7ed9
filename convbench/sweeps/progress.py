"""How a sweep goes: done, running, failed, left, and the time left; read from the folders of its jobs alone."""

import os
import sys
import threading
import time
from pathlib import Path

from convbench.run_folders.record import find_runs

_SECONDS_BETWEEN_LOOKS = 2.0


class SweepProgress:
    """Counts jobs by what their folders say. Goes to other processes without its thread.

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
        self._named = set(self._failures())

    def __reduce__(self) -> tuple[type["SweepProgress"], tuple[Path, int | None]]:
        return SweepProgress, (self.folder, self.jobs)

    def line(self) -> str:
        """For a person: `sweep ablation: 3 done, 1 running, 0 failed, 5 left, about 4 min left`."""
        count = self._count()
        counted = f"{count['finished']} done, {count['running']} running, {count['failed']} failed"
        said = f"sweep {self.folder.name}: {counted}"
        if self.jobs is None:
            return said
        left = max(self.jobs - sum(count.values()), 0)
        said += f", {left} left"
        done_now = count["finished"] - self._done_before
        if done_now and left + count["running"]:
            seconds = (time.monotonic() - self._began) / done_now * (left + count["running"])
            said += f", about {duration(seconds)} to go"
        return said

    @property
    def is_watching(self) -> bool:
        """Whether a thread says how it goes."""
        return self._thread is not None

    def start(self) -> None:
        """Say how it goes whenever that changes, and which job has failed; on a terminal in one line that stays."""
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
            notices = self._notices()
            if notices and is_terminal:
                _write_over("")
            for notice in notices:
                print(notice, flush=True)  # not by the log: with one job at a time, that is the job's own file
            line = self.line()
            if is_terminal:
                _write_over(fitted(line, os.get_terminal_size(sys.stderr.fileno()).columns))
            elif line.partition(", about")[0] != last.partition(", about")[0]:
                print(line, flush=True)
            last = line
        if is_terminal and last:
            _write_over("")

    def _notices(self) -> list[str]:
        failures = self._failures()
        new = [job for job in failures if job not in self._named]
        self._named.update(new)
        return [f"FAILED {name}: {failures[name, ended_at]}" for name, ended_at in new]

    def _failures(self) -> dict[tuple[str, str], str]:
        # A job that is tried again may fail again, at another time.
        return {
            (run.folder.name, run.ended_at): run.error
            for run in find_runs([self.folder]).runs
            if run.status == "failed"
        }

    def _count(self) -> dict[str, int]:
        count = {"finished": 0, "running": 0, "failed": 0}
        for run in find_runs([self.folder]).runs:
            if run.status in count:  # a killed one is left to do
                count[run.status] += 1
        return count


def fitted(line: str, columns: int) -> str:
    """Shorten the name of the sweep until the line fits: a line that wraps cannot be written over."""
    start, colon, rest = line.partition(": ")
    room = columns - 1 - len(colon) - len(rest)
    if len(start) <= room:
        return line
    shortened = f"{start[: max(room - 1, 0)]}…{colon}{rest}" if room > len("sweep …") else rest
    return shortened[: columns - 1]


def _write_over(line: str) -> None:
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
