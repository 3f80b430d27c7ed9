"""Which device, which precision, how many threads."""

import contextlib
import gc
from contextlib import AbstractContextManager

import torch

from convbench.engine import distributed
from convbench.errors import UserError

AUTOCAST: dict[str, torch.dtype | None] = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device for `engine.device`; `auto` takes a GPU where there is one.

    Raises:
        UserError: if the named device is not there, or there is no such device at all.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in there.items() if is_there)
    if not there.get(name, False):
        usable = ", ".join(device for device, is_there in there.items() if is_there)
        raise UserError(f"PyTorch finds no {name} device on this machine; choose auto or {usable} (engine.device)")
    return (
        torch.device(name, distributed.local_rank())
        if name == "cuda" and distributed.world_size() > 1
        else torch.device(name)
    )


def describe_device(device: torch.device) -> str:
    """For a person: `cpu (2 threads)` or the name of the GPU."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})" if device.type == "cpu" else device.type


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which the network runs: mixed precision, or none. Reusable, so one object serves every step."""
    dtype = AUTOCAST[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def set_up(device: torch.device, threads: int | None, deterministic: bool) -> None:
    """Process-wide switches: threads, deterministic kernels, and on a GPU TF32 products and the fastest algorithms."""
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports the compiler: a second
        torch.use_deterministic_algorithms(deterministic)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.set_float32_matmul_precision("high")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory() -> None:
    """Leave the process as the next run in it would like to find it."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
