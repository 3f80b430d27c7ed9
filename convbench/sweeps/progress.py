"""The progress of a sweep: the numbers of jobs by status and the remaining time, read from the job folders alone."""

import os
import sys
import threading
import time
from pathlib import Path

from convbench.run_folders.record import find_runs

SECONDS_BETWEEN_POLLS = 2.0


class SweepProgress:
    """Counts the jobs of a sweep by the status in their folders.

    An instance can be pickled; the copy has no thread.

    Args:
        folder: the folder of the sweep.
        jobs: the total number of jobs; None if it is not known.
    """

    def __init__(self, folder: Path, jobs: int | None) -> None:
        self.folder = folder
        self.jobs = jobs
        self._began = time.monotonic()
        self._done_before = self._count()["finished"]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported = set(self._failures())

    def __reduce__(self) -> tuple[type["SweepProgress"], tuple[Path, int | None]]:
        return SweepProgress, (self.folder, self.jobs)

    def line(self) -> str:
        """The progress in one line: `sweep ablation: 3 done, 1 running, 0 failed, 5 left, about 4 min to go`."""
        count = self._count()
        counts = f"{count['finished']} done, {count['running']} running, {count['failed']} failed"
        text = f"sweep {self.folder.name}: {counts}"
        if self.jobs is None:
            return text
        left = max(self.jobs - sum(count.values()), 0)
        text += f", {left} left"
        done_now = count["finished"] - self._done_before
        if done_now and left + count["running"]:
            seconds = (time.monotonic() - self._began) / done_now * (left + count["running"])
            text += f", about {duration(seconds)} to go"
        return text

    @property
    def is_watching(self) -> bool:
        """Whether a thread prints the progress."""
        return self._thread is not None

    def start(self) -> None:
        """Start a thread that prints failed jobs and, whenever it changes, the progress.

        On a terminal the progress is a single line that is overwritten.
        """
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        last, is_terminal = "", sys.stderr.isatty()
        while not self._stop.wait(SECONDS_BETWEEN_POLLS):
            notices = self._failure_notices()
            if notices and is_terminal:
                _write_over("")
            for notice in notices:
                print(notice, flush=True)  # not logged: a job in this process directs the log to its own file
            line = self.line()
            if is_terminal:
                _write_over(fitted(line, os.get_terminal_size(sys.stderr.fileno()).columns))
            elif line.partition(", about")[0] != last.partition(", about")[0]:
                print(line, flush=True)
            last = line
        if is_terminal and last:
            _write_over("")

    def _failure_notices(self) -> list[str]:
        """One line for each job that has failed since the last call."""
        failures = self._failures()
        new = [job for job in failures if job not in self._reported]
        self._reported.update(new)
        return [f"FAILED {name}: {failures[name, ended_at]}" for name, ended_at in new]

    def _failures(self) -> dict[tuple[str, str], str]:
        """The errors of the failed jobs, by folder name and end time: a job that is retried may fail again."""
        return {
            (run.folder.name, run.ended_at): run.error
            for run in find_runs([self.folder]).runs
            if run.status == "failed"
        }

    def _count(self) -> dict[str, int]:
        """The number of jobs by status."""
        count = {"finished": 0, "running": 0, "failed": 0}
        for run in find_runs([self.folder]).runs:
            if run.status in count:  # an interrupted or killed job remains to be run
                count[run.status] += 1
        return count


def fitted(line: str, columns: int) -> str:
    """The progress line with the name of the sweep shortened to fit the terminal; a wrapped line cannot be overwritten.

    Args:
        line: the progress line.
        columns: the width of the terminal.
    """
    start, colon, rest = line.partition(": ")
    room = columns - 1 - len(colon) - len(rest)
    if len(start) <= room:
        return line
    shortened = f"{start[: max(room - 1, 0)]}…{colon}{rest}" if room > len("sweep …") else rest
    return shortened[: columns - 1]


def _write_over(line: str) -> None:
    """Replace the current line of the terminal."""
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """A duration in readable units: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
