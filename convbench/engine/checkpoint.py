"""Checkpoints: the complete state of a training run, written atomically, so that a resumed run is bit-identical."""

from pathlib import Path
from typing import Any

import torch

from convbench.engine import distributed
from convbench.engine.step import TrainStep
from convbench.errors import UserError
from convbench.files import atomic_path


def training_state(step: TrainStep) -> dict[str, Any]:
    """The state of the network, optimizer, gradient scaler, meter, and the random number generators used by dropout.

    This is a collective operation: every process must call it, because each has its own meter and generators.
    """
    own, *others = distributed.all_gather_object({"meter": step.meter.sums.cpu(), "rng": _generator_states()})
    return {
        "network": step.network.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.scaler.state_dict(),
        **own,
        "others": others,  # the states of processes 1, 2, ...
    }


def restore_training_state(step: TrainStep, state: dict[str, Any]) -> None:
    """Restore the result of `training_state`; the number of processes may have changed.

    Raises:
        UserError: The optimizer of the checkpoint has other parameter groups.
    """
    step.network.load_state_dict(state["network"])
    try:
        step.optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise UserError(
            "the optimizer in the checkpoint has other parameter groups, as it was saved by another version of "
            f"convbench ({error}): start a new run (resume)"
        ) from error
    step.scaler.load_state_dict(state["scaler"])
    processes = [state, *state.get("others", [])]  # earlier versions saved only the state of process 0
    step.meter.reset()
    for process in processes[distributed.rank() :: distributed.world_size()]:
        step.meter.sums += process["meter"].to(step.device)
    if distributed.rank() < len(processes):
        _set_generator_states(processes[distributed.rank()]["rng"])


def _generator_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_generator_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    # The checkpoint may come from a machine with more GPUs.
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path` atomically: a crash leaves either the old or the new checkpoint."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint with `weights_only=True`, so that a file cannot run code.

    Raises:
        UserError: The file does not exist or cannot be read.
    """
    if not path.is_file():
        raise UserError(
            f"there is no checkpoint {path}: the run stopped before this checkpoint was written; "
            "give another run or checkpoint"
        )
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"the checkpoint {path} cannot be read ({error}); give another run or checkpoint") from error
