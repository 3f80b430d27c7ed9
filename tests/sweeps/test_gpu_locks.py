"""GPUs of jobs that run beside each other: processes of their own, as the workers of joblib are."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convbench.sweeps.gpu_locks import gpus, jobs_at_once, threads_each

# Takes one of the things that its arguments name, says which, and keeps it until its input ends.
_TAKES = """
import sys
from pathlib import Path
from convbench.sweeps.gpu_locks import wait_for_lock
name, file = wait_for_lock(sys.argv[3:], int(sys.argv[2]), Path(sys.argv[1]))
print(name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that takes one of some things."""
    started = []

    def start(*names: str, shares: int = 1) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _TAKES, str(tmp_path / "locks"), str(shares), *names]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_never_have_one_gpu_and_a_third_one_waits_until_one_is_killed(taker):
    first = taker("0", "1")
    assert said(first) == "0"
    second = taker("0", "1")
    assert said(second) == "1"
    third = taker("0", "1")
    time.sleep(1.5)  # more than the time between two tries
    assert third.poll() is None
    second.kill()
    second.wait()
    began = time.monotonic()
    assert said(third) == "1"
    assert time.monotonic() - began < 10


def test_where_there_are_more_jobs_than_gpus_each_gpu_has_one_before_one_has_two(taker):
    assert [said(taker("a", "b", shares=2)) for _ in range(4)] == ["a", "b", "a", "b"]


def test_a_process_keeps_its_gpu_and_sees_no_other_from_then_on(tmp_path):
    code = (
        "import os; from convbench.sweeps.gpu_locks import acquire_gpu, gpus\n"
        "print(gpus(), acquire_gpu(2), acquire_gpu(2), gpus(), os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    environment = {"CUDA_VISIBLE_DEVICES": "3,5", "TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "['3', '5'] 3 3 ['3'] 3\n"


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", []),
        ("-1", []),
        ("0", ["0"]),
        ("2, 0", ["2", "0"]),
        ("1,-1,2", ["1"]),
        ("GPU-8f2,MIG-1", ["GPU-8f2", "MIG-1"]),
    ],
)
def test_the_gpus_are_those_that_cuda_would_show(visible, names):
    assert gpus({"CUDA_VISIBLE_DEVICES": visible}) == names


@pytest.mark.parametrize(("cores", "gpus", "jobs"), [(16, 4, 4), (16, 0, 8), (2, 0, 1), (1, 0, 1), (1, 2, 2)])
def test_there_is_a_job_for_each_gpu_or_for_two_cores(cores, gpus, jobs):
    assert jobs_at_once(cores, gpus) == jobs


@pytest.mark.parametrize(
    ("cores", "jobs", "threads"), [(16, 4, 4), (2, 2, 1), (2, 8, 1), (7, 2, 3), (8, -1, 1), (8, -5, 2), (8, -20, 8)]
)
def test_the_cores_are_dealt_out_among_the_jobs(cores, jobs, threads):
    assert threads_each(cores, jobs) == threads
