"""Checkpoints: everything a run needs to go on to the same bits, written so that no crash leaves half a file."""

from pathlib import Path
from typing import Any

import torch

from convbench.engine import distributed
from convbench.engine.step import TrainStep
from convbench.errors import UserError
from convbench.files import atomic_path


def training_state(step: TrainStep) -> dict[str, Any]:
    """Network, optimizer, scaler, running sums of the epoch and the generators that dropout draws from.

    With several processes all have to call: each has sums and generators of its own.
    """
    own, *others = distributed.all_gather_object({"meter": step.meter.sums.cpu(), "rng": _generators()})
    return {
        "network": step.network.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.scaler.state_dict(),
        **own,
        "others": others,  # of the processes after the first one
    }


def restore_training_state(step: TrainStep, state: dict[str, Any]) -> None:
    """Put `training_state` back; the number of processes may be another one.

    Raises:
        UserError: if the optimizer of the checkpoint holds its parameters in other groups.
    """
    step.network.load_state_dict(state["network"])
    try:
        step.optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise UserError(
            f"the checkpoint groups parameters as another version of convbench does ({error}): train anew (resume)"
        ) from error
    step.scaler.load_state_dict(state["scaler"])
    processes = [state, *state.get("others", [])]  # earlier versions kept the first process alone
    step.meter.reset()
    for process in processes[distributed.rank() :: distributed.world_size()]:
        step.meter.sums += process["meter"].to(step.device)
    if distributed.rank() < len(processes):
        _set_generators(processes[distributed.rank()]["rng"])


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):  # the machine may be another one
        torch.cuda.set_rng_state(state.cpu(), index)


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path`, which holds the old or the new checkpoint at every moment."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint (`weights_only`: it can hold no code).

    Raises:
        UserError: if there is none, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: the run stopped before its first one was written")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"the checkpoint {path} cannot be read ({error}); give another run or checkpoint") from error
