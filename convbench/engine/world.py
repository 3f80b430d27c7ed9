"""The processes that train one network together, as `torchrun` starts them; mostly there is one."""

import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def join() -> None:
    """Meet the other processes; gradients go over NCCL between GPUs, everything else over gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Part, if there were others; nothing that exchanges gradients may be in use any more.

    Whoever still refers to the group, as DistributedDataParallel does, keeps its threads alive. One that lets go of its
    last tensor when Python is already at its end aborts the process.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is; the first one, 0, alone speaks and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """Which of the processes on this machine this is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def of_first(value: Any) -> Any:
    """What the first process gives here; all have to call."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def added_up(tensor: Tensor) -> Tensor:
    """The sum over all processes; all have to call."""
    if size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def any_of(wanted: bool) -> bool:
    """Whether any process wants it; all have to call."""
    return bool(added_up(torch.tensor(int(wanted))).item()) if size() > 1 else wanted
