"""The device, the precision and the number of threads."""

import contextlib
import gc
from contextlib import AbstractContextManager

import torch

from convbench.engine import distributed
from convbench.errors import UserError

AUTOCAST: dict[str, torch.dtype | None] = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device for `engine.device`; `auto` chooses a GPU if one is available.

    With several processes, each gets the GPU of its local rank.

    Raises:
        UserError: The device is not available, or no device has this name.
    """
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device, is_usable in is_available.items() if is_usable]
    if name == "auto":
        name = available[0]
    if name not in available:
        raise UserError(
            f"PyTorch finds no {name} device on this machine; choose auto or {', '.join(available)} (engine.device)"
        )
    if name == "cuda" and distributed.world_size() > 1:
        return torch.device(name, distributed.local_rank())
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """A description for the user: `cpu (2 threads)`, or `cuda` with the name of the GPU."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})" if device.type == "cpu" else device.type


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context manager for a forward pass in a given precision. It is reusable: one object serves every step."""
    dtype = AUTOCAST[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def set_up(device: torch.device, threads: int | None, deterministic: bool) -> None:
    """Set the process-wide options of PyTorch.

    Args:
        device: The device of the run. On a GPU, TF32 matrix products are enabled, and cuDNN selects its fastest
            algorithms unless `deterministic` is set.
        threads: The number of CPU threads; None keeps PyTorch's default.
        deterministic: Whether to use only deterministic algorithms.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    # Only if it changes: the setter imports the compiler, which takes a second.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.set_float32_matmul_precision("high")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory() -> None:
    """Free memory and reset the compiler before the next run in the same process."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
