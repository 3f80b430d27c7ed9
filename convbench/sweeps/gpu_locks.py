"""What this machine has for jobs that run beside each other: how many at once, threads and a GPU for each.

No torch here: a launcher's configuration asks before anything is loaded, and a GPU has to be chosen before CUDA starts.
"""

import fcntl
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
from typing import TextIO

from omegaconf import OmegaConf

log = logging.getLogger("convbench")

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_SECONDS_BETWEEN_TRIES = 1.0

_slot: TextIO | None = None  # the GPU of this process: held for as long as the file is open


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
    global _slot
    if _slot is not None:
        return os.environ[_VISIBLE]
    names = gpus()
    if not names:
        return None
    name, _slot = wait_for_lock(names, math.ceil(max(jobs, 1) / len(names)), lock_folder())
    os.environ[_VISIBLE] = name
    log.info("takes GPU %s", name)
    return name


def lock_folder() -> Path:
    """Where the jobs of this user say which GPU they have."""
    return Path(tempfile.gettempdir()) / f"convbench-{os.getuid()}"


def wait_for_lock(names: list[str], shares: int, folder: Path) -> tuple[str, TextIO]:
    """Wait until one of some things is free, and take it.

    Args:
        names: of the things; the first free one is taken.
        shares: how many processes may have one at the same time. All things get one before one gets two.
        folder: where the files lie that are locked.

    Returns:
        The name, and the file that holds it for as long as it is open.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_told = False
    while True:
        for share in range(shares):
            for name in names:
                file = (folder / f"gpu-{re.sub('[^A-Za-z0-9-]', '-', name)}.{share}").open("w")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                    continue
                return name, file
        if not is_told:
            log.info("waits for a GPU: other jobs have all of them (%s)", ", ".join(names))
            is_told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)
