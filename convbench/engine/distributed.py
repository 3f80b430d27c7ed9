"""The processes that train one network together, as `torchrun` starts them; mostly there is one."""

import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def init_process_group() -> None:
    """Meet the other processes; gradients go over NCCL between GPUs, everything else over gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def destroy_process_group() -> None:
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
    return int(os.environ.get("LOCAL_RANK") or "0")


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def broadcast_object(value: Any) -> Any:
    """What the first process gives here; all have to call."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def all_gather_object(value: Any) -> list[Any]:
    """What each process gives here, in the order of their ranks; all have to call."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Give the buffers of all processes the same values; all have to call, and none waits for its device.

    Floating-point buffers become the mean over the processes. Running means and variances move towards the statistics
    of each batch by a fixed share, so their mean is what one process would hold that had moved towards the mean of the
    parts' means and the mean of the parts' variances. The latter is the variance by which the parts were normalised;
    that the running means of the processes differ is noise of the estimate, and adds nothing to it. Values that are
    equal everywhere stay as they are, to the bit: they are averaged in float64. Other buffers, such as counters, are
    those of the first process.
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
    """The sum over all processes; all have to call."""
    if world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def any_process(wanted: bool) -> bool:
    """Whether any process wants it; all have to call."""
    return bool(all_reduce_sum(torch.tensor(int(wanted))).item()) if world_size() > 1 else wanted
