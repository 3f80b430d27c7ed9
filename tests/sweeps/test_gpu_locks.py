"""The assignment of GPUs and CPU threads to parallel jobs, tested with separate processes as in joblib."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convbench.sweeps.gpu_locks import gpus, jobs_at_once, threads_each

# Locks one of the GPUs in its arguments, prints its name, and holds the lock until its standard input ends. It prints
# "waiting" as soon as an attempt has failed.
_HOLD_LOCK = """
import logging, sys
from pathlib import Path
from convbench.sweeps.gpu_locks import wait_for_lock
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message).7s")
name, lock = wait_for_lock(sys.argv[3:], int(sys.argv[2]), Path(sys.argv[1]))
print(name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold_lock(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that locks one of the given GPUs."""
    started = []

    def start(*names: str, shares: int = 1) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _HOLD_LOCK, str(tmp_path / "locks"), str(shares), *names]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_never_share_a_gpu_and_a_third_one_waits_until_one_is_killed(hold_lock):
    first = hold_lock("0", "1")
    assert next_line(first) == "0"
    second = hold_lock("0", "1")
    assert next_line(second) == "1"
    third = hold_lock("0", "1")
    assert next_line(third) == "waiting"
    second.kill()
    second.wait()
    began = time.monotonic()
    assert next_line(third) == "1"
    assert time.monotonic() - began < 10


def test_with_more_jobs_than_gpus_every_gpu_gets_one_job_before_any_gets_two(hold_lock):
    assert [next_line(hold_lock("a", "b", shares=2)) for _ in range(4)] == ["a", "b", "a", "b"]


def test_a_process_keeps_its_gpu_and_sees_no_other_gpu(tmp_path):
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
def test_the_gpus_are_those_that_cuda_would_use(visible, names):
    assert gpus({"CUDA_VISIBLE_DEVICES": visible}) == names


@pytest.mark.parametrize(("cores", "gpus", "jobs"), [(16, 4, 4), (16, 0, 8), (2, 0, 1), (1, 0, 1), (1, 2, 2)])
def test_there_is_one_job_per_gpu_or_per_two_cores(cores, gpus, jobs):
    assert jobs_at_once(cores, gpus) == jobs


@pytest.mark.parametrize(
    ("cores", "jobs", "threads"), [(16, 4, 4), (2, 2, 1), (2, 8, 1), (7, 2, 3), (8, -1, 1), (8, -5, 2), (8, -20, 8)]
)
def test_the_cores_are_divided_among_the_jobs(cores, jobs, threads):
    assert threads_each(cores, jobs) == threads
