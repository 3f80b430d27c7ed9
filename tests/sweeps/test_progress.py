"""What a person reads of a sweep whose jobs run elsewhere."""

import pickle
import time

import pytest

from convbench.run_folders.folder import RunFolder
from convbench.sweeps.progress import SweepProgress, fitted


def job(sweep, name, **results):
    folder = RunFolder(sweep / name)
    folder.update_results(**results)
    return folder


def test_a_job_that_fails_while_one_watches_is_named_with_its_reason_and_once(tmp_path, capsys):
    job(tmp_path, "seed=0", status="failed", error="of yesterday", ended_at="2026-01-01T00:00:00")
    progress = SweepProgress(tmp_path, 3)
    progress.start()
    job(tmp_path, "seed=0", status="failed", error="out of memory", ended_at="2026-01-02T00:00:00")
    job(tmp_path, "seed=1", status="finished", error=None, ended_at="2026-01-02T00:00:00")
    time.sleep(4.5)  # two looks
    progress.stop()
    notice, line = capsys.readouterr().out.splitlines()
    assert notice == "FAILED seed=0: out of memory"
    assert line.startswith(f"sweep {tmp_path.name}: 1 done, 0 running, 1 failed, 1 left, about ")


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_the_line_never_wraps_and_keeps_its_counts(columns):
    line = "sweep 2026-11-21_13-51-25_ab12: 12 done, 4 running, 1 failed, 83 left, about 12 min to go"
    said = fitted(line, columns)
    assert len(said) < columns
    assert said == line[: columns - 1] or "12 done, 4 running" in said
    assert fitted(line, 200) == line


def test_it_goes_to_other_processes_while_it_watches(tmp_path):
    progress = SweepProgress(tmp_path, 4)
    progress.start()
    there = pickle.loads(pickle.dumps(progress))
    progress.stop()
    assert (there.folder, there.jobs, there.is_watching) == (tmp_path, 4, False)
