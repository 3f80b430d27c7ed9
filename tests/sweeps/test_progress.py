"""The progress display of a sweep whose jobs run in other processes."""

import pickle
import threading

import pytest

from convbench.run_folders.run_folder import RunFolder
from convbench.sweeps import progress as progress_module
from convbench.sweeps.progress import SweepProgress, fitted


def write_job(sweep, name, **results):
    RunFolder(sweep / name).update_results(**results)


def test_a_job_that_fails_during_the_sweep_is_reported_once_with_its_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_POLLS", 0.01)
    write_job(tmp_path, "seed=0", status="failed", error="of yesterday", ended_at="2026-01-01T00:00:00")
    progress = SweepProgress(tmp_path, 3)
    write_job(tmp_path, "seed=0", status="failed", error="out of memory", ended_at="2026-01-02T00:00:00")
    write_job(tmp_path, "seed=1", status="finished", error=None, ended_at="2026-01-02T00:00:00")
    polls, has_polled_three_times = 0, threading.Event()
    line_of_progress = progress.line

    def counted_line():
        nonlocal polls
        polls += 1
        if polls == 3:
            has_polled_three_times.set()
        return line_of_progress()

    monkeypatch.setattr(progress, "line", counted_line)
    progress.start()
    assert has_polled_three_times.wait(timeout=60)
    progress.stop()
    notice, line = capsys.readouterr().out.splitlines()
    assert notice == "FAILED seed=0: out of memory"
    assert line.startswith(f"sweep {tmp_path.name}: 1 done, 0 running, 1 failed, 1 left, about ")


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_the_progress_line_fits_the_terminal_and_keeps_its_counts(columns):
    line = "sweep 2026-11-21_13-51-25_ab12: 12 done, 4 running, 1 failed, 83 left, about 12 min to go"
    shortened = fitted(line, columns)
    assert len(shortened) < columns
    assert shortened == line[: columns - 1] or "12 done, 4 running" in shortened
    assert fitted(line, 200) == line


def test_progress_can_be_pickled_while_its_thread_runs(tmp_path):
    progress = SweepProgress(tmp_path, 4)
    progress.start()
    copy = pickle.loads(pickle.dumps(progress))
    progress.stop()
    assert (copy.folder, copy.jobs, copy.is_watching) == (tmp_path, 4, False)
