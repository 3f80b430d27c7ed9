"""Collective operations of data-parallel training with `torchrun`; without it, there is one process of rank 0."""

import atexit
import os
import sys
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn


def init_process_group() -> None:
    """Initialise the process group: NCCL for tensors on GPUs, gloo for tensors on CPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def exit_process(code: int) -> NoReturn:
    """Destroy the process group, if there is one, and exit without shutting Python down.

    Objects such as DistributedDataParallel keep the communication threads of a destroyed group alive. A thread that
    drops its last reference to a Python object while the interpreter shuts down aborts the process, which torchrun
    reports as a failed run.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    # The functions that modules registered for the end of the process: they flush logs and end compiler processes.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def rank() -> int:
    """The rank of this process; only process 0 prints and writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """The rank of this process on its machine, which is also the index of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or "0")


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def broadcast_object(value: Any) -> Any:
    """The value that process 0 passes; every process must call it."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def all_gather_object(value: Any) -> list[Any]:
    """The values of all processes in the order of their ranks; every process must call it."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Make the buffers of all processes equal, without a host synchronization; every process must call it.

    Floating-point buffers become the mean over the processes; other buffers, such as counters, become those of
    process 0. The mean is computed in float64, so that a buffer with equal values in all processes keeps them to the
    last bit.

    The running statistics of batch norm are exponential moving averages with a fixed momentum. So the mean over the
    processes is the moving average of the mean over the shards' means, and of the mean over the shards' variances.
    Each shard is normalised by its own variance in training, so the mean variance is the right estimate: the
    differences between the running means of the processes are noise and are not added to it.
    """
    if world_size() == 1:
        return
    buffers = list(network.buffers())
    floating = [buffer for buffer in buffers if buffer.is_floating_point()]
    if floating:
        flat = torch.cat([buffer.reshape(-1).double() for buffer in floating])
        dist.all_reduce(flat)
        means = (flat / world_size()).split([buffer.numel() for buffer in floating])
        for buffer, mean in zip(floating, means, strict=True):
            buffer.copy_(mean.view(buffer.shape))
    for buffer in buffers:
        if not buffer.is_floating_point():
            dist.broadcast(buffer, 0)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes; every process must call it."""
    if world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def any_process(wanted: bool) -> bool:
    """Whether `wanted` is true in any process; every process must call it."""
    return bool(all_reduce_sum(torch.tensor(int(wanted))).item()) if world_size() > 1 else wanted
