"""`engine.compile=auto`: whether a run is long enough to earn back what compiling it costs."""

import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.engine.device import autocast, synchronize
from convbench.engine.remembered import Remembered

_TOPIC = "seconds of compiled networks"
# Of a network never compiled here: seconds to compile, and the share of a step that it saves; on a CPU the latter was
# between nothing and a third, with the machine. What a compiled run comes to is remembered, and decides the next one.
_COST = 60.0
_SHARE_SAVED = {"cpu": 0.1, "cuda": 0.3}
_FEW_STEPS, _FEW_EPOCHS = 50, 3  # a trial: whoever tries something out does not want to wait for a compiler
_EARNS = 1.5  # times the cost: an estimate may be wrong


@dataclass(frozen=True)
class Compilation:
    """Whether to compile a network.

    Attributes:
        name: of what would be compiled, under which its cost is remembered.
        is_on: whether it is.
        why: the estimate, for a person; empty where there was none.
    """

    name: str
    is_on: bool
    why: str = ""


def keep_compiled_code(folder: Path) -> None:
    """Let PyTorch keep what it compiles where the next run finds it, also after a restart of the machine.

    The compiler looks for this when it is imported, and an optimizer imports it.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))


def decide(
    network: nn.Module, batch: Tensor, precision: str, epochs: int, steps: int, remembered: Remembered, name: str
) -> Compilation:
    """Estimate by a few steps of a copy of the network what compiling would save, and compare with what it costs.

    Args:
        network: on its device, not compiled; stays as it is.
        batch: images as the network will see them, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        epochs: of the run.
        steps: of all epochs together.
        remembered: what compiling cost before.
        name: of what would be compiled, under which its cost is remembered.
    """
    if steps < _FEW_STEPS or epochs <= _FEW_EPOCHS:
        return Compilation(name, False, f"no, for a trial of {steps} steps")
    eager = _eager_seconds(network, batch, precision)
    known = remembered.recall(_TOPIC, name) or {
        "first step": _COST,
        "step": (1 - _SHARE_SAVED.get(batch.device.type, 0.0)) * eager,
    }
    cost, saved = known["first step"], max(0.0, steps * (eager - known["step"]))
    is_on = saved > _EARNS * cost
    return Compilation(
        name, is_on, f"{'yes' if is_on else 'no'}, it takes about {cost:.0f} s to save about {saved:.0f} s"
    )


def remember_compiled(remembered: Remembered, name: str, first_step: float, step: float) -> None:
    """Note how long the first step of a compiled network took, which compiled it, and how long steps took then."""
    remembered.remember(_TOPIC, name, {"first step": first_step, "step": step})


def _eager_seconds(network: nn.Module, batch: Tensor, precision: str) -> float:
    twin, context, seconds = copy.deepcopy(network), autocast(batch.device, precision), []
    with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
        for _ in range(8):  # the first one pays for what is set up once; others for what else the machine does
            begin = time.perf_counter()
            with context:
                logits = twin(batch)
                loss = functional.cross_entropy(logits, logits.detach().argmax(1))
            loss.backward()
            synchronize(batch.device)
            seconds.append(time.perf_counter() - begin)
    return min(seconds)
