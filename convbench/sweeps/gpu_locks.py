"""What this machine has for jobs that run beside each other: how many at once, threads and a GPU for each.

No torch here: a launcher's configuration asks before anything is loaded, and a GPU has to be chosen before CUDA starts.
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

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_SECONDS_BETWEEN_TRIES = 1.0

_gpu_lock: BaseFileLock | None = None  # of the GPU of this process, held until it ends


def register_resolvers() -> None:
    """Make the numbers below known to the launchers' configs."""
    functions: dict[str, Callable[..., int]] = {
        "jobs_at_once": lambda: jobs_at_once(cores(), len(gpus())),
        "threads_each": lambda jobs: threads_each(cores(), jobs),
        "gpus_each": lambda: min(len(gpus()), 1),
    }
    for name, function in functions.items():
        # cached, for counting GPUs may take a second
        OmegaConf.register_new_resolver(name, function, use_cache=True, replace=True)


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What CUDA calls the GPUs that this process may use: entries of CUDA_VISIBLE_DEVICES, or numbers."""
    if _VISIBLE in environment:
        return _visible(environment[_VISIBLE])
    if shutil.which("nvidia-smi"):
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60).stdout
        return [str(index) for index in range(len(re.findall("^GPU ", said, re.MULTILINE)))]
    return [str(index) for index in range(len(list(_DRIVER.iterdir())))] if _DRIVER.is_dir() else []


def _visible(devices: str) -> list[str]:
    names: list[str] = []
    for name in map(str.strip, devices.split(",")):
        if name in ("", "-1"):
            break  # CUDA reads no further either
        names.append(name)
    return names


def jobs_at_once(cores: int, gpus: int) -> int:
    """One for each GPU; without any, two cores for each job."""
    return gpus or max(cores // 2, 1)


def threads_each(cores: int, jobs: int) -> int:
    """The cores, dealt out among jobs that run at once.

    Args:
        cores: of the machine.
        jobs: how many run at once; joblib takes -1 for one a core, -2 for all cores but one.
    """
    return max(cores // max(jobs if jobs > 0 else cores + 1 + jobs, 1), 1)


def acquire_gpu(jobs: int) -> str | None:
    """Let this process see one GPU only, which no other job of this user has; waits until one is free.

    It stays with the process, and is free again when that ends: CUDA cannot change its GPU once it has started, and the
    processes of joblib carry out one job after the other.

    Args:
        jobs: how many run at once; where they are more than GPUs, each GPU takes several.

    Returns:
        What CUDA calls the GPU; None where there is none.
    """
    global _gpu_lock
    if _gpu_lock is not None:
        return os.environ[_VISIBLE]
    names = gpus()
    if not names:
        return None
    name, _gpu_lock = wait_for_lock(names, math.ceil(max(jobs, 1) / len(names)), lock_folder())
    os.environ[_VISIBLE] = name
    log.info("takes GPU %s", name)
    return name


def lock_folder() -> Path:
    """The folder in which the jobs of this user lock GPUs."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"convbench-{user}"


def wait_for_lock(names: list[str], jobs_each: int, folder: Path) -> tuple[str, BaseFileLock]:
    """Wait until a GPU is free, and lock it.

    Args:
        names: of the GPUs; the first free one is taken.
        jobs_each: how many processes may share a GPU. All GPUs get one process before one gets two.
        folder: of the files that are locked.

    Returns:
        The name, and the lock, which is held until it is released or the process ends.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_told = False
    while True:
        for place in range(jobs_each):
            for name in names:
                lock = FileLock(folder / f"gpu-{re.sub('[^A-Za-z0-9-]', '-', name)}.{place}")
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    continue
                return name, lock
        if not is_told:
            log.info("waiting for a GPU: other jobs have all of them (%s)", ", ".join(names))
            is_told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)
