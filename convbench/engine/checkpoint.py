"""Checkpoints: everything a run needs to go on to the same bits, written so that no crash leaves half a file."""

from pathlib import Path
from typing import Any

import torch

from convbench.engine.step import TrainStep
from convbench.errors import UserError
from convbench.logs.files import atomic_path


def training_state(step: TrainStep) -> dict[str, Any]:
    """Network, optimizer, scaler, running sums of the epoch and the generators that dropout draws from."""
    return {
        "network": step.network.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.scaler.state_dict(),
        "meter": step.meter.sums,
        "rng": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    }


def restore_training_state(step: TrainStep, state: dict[str, Any]) -> None:
    """Put `training_state` back."""
    step.network.load_state_dict(state["network"])
    step.optimizer.load_state_dict(state["optimizer"])
    step.scaler.load_state_dict(state["scaler"])
    step.meter.sums.copy_(state["meter"])
    torch.set_rng_state(state["rng"]["cpu"].cpu())
    if state["rng"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([rng.cpu() for rng in state["rng"]["cuda"]])


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
