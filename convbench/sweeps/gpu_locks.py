"""Resources for the parallel jobs of a sweep on one machine: the number of jobs, CPU threads and a GPU for each job.

This module does not import PyTorch: the configurations of the launchers call it before PyTorch is loaded, and a GPU has
to be selected before CUDA is initialised.
"""

import getpass
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout
from omegaconf import OmegaConf

log = logging.getLogger("convbench")

_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
_DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
_SECONDS_BETWEEN_ATTEMPTS = 1.0

_gpu_lock: BaseFileLock | None = None  # the lock of this process's GPU, held until the process ends


def register_resolvers() -> None:
    """Register the OmegaConf resolvers that the configurations of the launchers use."""
    functions: dict[str, Callable[..., int]] = {
        "jobs_at_once": lambda: jobs_at_once(cores(), len(gpus())),
        "threads_each": lambda jobs: threads_each(cores(), jobs),
        "gpus_each": lambda: min(len(gpus()), 1),
    }
    for name, function in functions.items():
        # Cached, because counting the GPUs may take a second.
        OmegaConf.register_new_resolver(name, function, use_cache=True, replace=True)


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The identifiers of the GPUs that this process may use: entries of CUDA_VISIBLE_DEVICES, or else indices."""
    if _VISIBLE_DEVICES in environment:
        return _split_devices(environment[_VISIBLE_DEVICES])
    if shutil.which("nvidia-smi"):
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60).stdout
        return [str(index) for index in range(len(re.findall("^GPU ", listing, re.MULTILINE)))]
    return [str(index) for index in range(len(list(_DRIVER_FOLDER.iterdir())))] if _DRIVER_FOLDER.is_dir() else []


def _split_devices(devices: str) -> list[str]:
    names: list[str] = []
    for name in map(str.strip, devices.split(",")):
        if name in ("", "-1"):
            break  # CUDA ignores all entries after an invalid one
        names.append(name)
    return names


def jobs_at_once(cores: int, gpus: int) -> int:
    """The number of jobs to run in parallel: one per GPU, or one per two cores on a machine without GPUs."""
    return gpus or max(cores // 2, 1)


def threads_each(cores: int, jobs: int) -> int:
    """The number of CPU threads for each of the jobs that run in parallel.

    Args:
        cores: the number of cores of the machine.
        jobs: the number of parallel jobs; as in joblib, -1 means one job per core and -2 one job fewer.
    """
    return max(cores // max(jobs if jobs > 0 else cores + 1 + jobs, 1), 1)


def acquire_gpu(jobs: int) -> str | None:
    """Restrict this process to one GPU that no other job of this user has; wait until one is free.

    The process keeps the GPU until it ends: CUDA cannot change its GPU after its initialisation, and the worker
    processes of joblib run one job after the other.

    Args:
        jobs: the number of parallel jobs; if it exceeds the number of GPUs, several jobs share a GPU.

    Returns:
        The identifier of the GPU for CUDA; None if there is no GPU.
    """
    global _gpu_lock
    if _gpu_lock is not None:
        return os.environ[_VISIBLE_DEVICES]
    names = gpus()
    if not names:
        return None
    name, _gpu_lock = wait_for_lock(names, math.ceil(max(jobs, 1) / len(names)), lock_folder())
    os.environ[_VISIBLE_DEVICES] = name
    log.info("using GPU %s", name)
    return name


def lock_folder() -> Path:
    """The folder of the lock files by which the jobs of this user share the GPUs."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"convbench-{user}"


def wait_for_lock(names: list[str], jobs_each: int, folder: Path) -> tuple[str, BaseFileLock]:
    """Wait until a GPU is free, and lock it.

    Args:
        names: the identifiers of the GPUs; the first free one is locked.
        jobs_each: the number of processes that may share a GPU. Every GPU gets a first process before any GPU gets a
            second one.
        folder: the folder of the lock files.

    Returns:
        The identifier of the GPU, and its lock, which is held until it is released or the process ends.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    has_logged = False
    while True:
        for slot in range(jobs_each):
            for name in names:
                lock = FileLock(folder / f"gpu-{re.sub('[^A-Za-z0-9-]', '-', name)}.{slot}")
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    continue
                return name, lock
        if not has_logged:
            log.info("waiting for a GPU: other jobs use all of them (%s)", ", ".join(names))
            has_logged = True
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
