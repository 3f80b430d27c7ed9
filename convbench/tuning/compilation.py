"""`engine.compile`: whether a run is long enough to earn back what compiling it costs, and the compilation itself."""

import copy
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.engine import distributed
from convbench.engine.device import autocast, synchronize
from convbench.errors import UserError, first_cause
from convbench.tuning.measurements import MeasurementCache

_TOPIC = "compiled networks: seconds to compile, and of a step"
# Of a network never compiled here: seconds to compile, and the share of a step that it saves; on a CPU the latter was
# between nothing and a third, with the machine. What a compiled run comes to is measurements, and decides the next one.
_COST = 60.0
_SHARE_SAVED = {"cpu": 0.1, "cuda": 0.3}
_FEW_STEPS, _FEW_EPOCHS = 50, 3  # a trial: whoever tries something out does not want to wait for a compiler
_EARNS = 1.5  # times the cost: an estimate may be wrong


@dataclass(frozen=True)
class Compilation:
    """Whether to compile a network.

    Attributes:
        name: of what would be compiled, under which its cost is measurements.
        is_on: whether it is.
        why: the estimate, for a person, or why it could not be done; empty where there was neither.
        seconds: that it took to compile; None where nothing was compiled.
    """

    name: str
    is_on: bool
    why: str = ""
    seconds: float | None = None


def set_compile_cache(folder: Path) -> None:
    """Let PyTorch keep what it compiles where the next run finds it, also after a restart of the machine.

    The compiler looks for this when it is imported, and an optimizer imports it.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))


def decide_compilation(
    network: nn.Module,
    batch: Tensor,
    precision: str,
    epochs: int,
    steps: int,
    measurements: MeasurementCache,
    name: str,
) -> Compilation:
    """Estimate by a few steps of a copy of the network what compiling would save, and compare with what it costs.

    Args:
        network: on its device, not compiled; stays as it is.
        batch: images as the network will see them, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        epochs: of the run.
        steps: of all epochs together.
        measurements: what compiling cost before.
        name: of what would be compiled, under which its cost is measurements.
    """
    if steps < _FEW_STEPS or epochs <= _FEW_EPOCHS:
        return Compilation(name, False, f"no, for a trial of {steps} steps")
    eager = _eager_seconds(network, batch, precision)
    known = measurements.get(_TOPIC, name) or {}
    if not {"compile", "step"} <= known.keys():
        known = {"compile": _COST, "step": (1 - _SHARE_SAVED.get(batch.device.type, 0.0)) * eager}
    cost, saved = known["compile"], max(0.0, steps * (eager - known["step"]))
    is_on = saved > _EARNS * cost
    return Compilation(
        name, is_on, f"{'yes' if is_on else 'no'}, it takes about {cost:.0f} s to save about {saved:.0f} s"
    )


def compile_network(
    compilation: Compilation, network: nn.Module, batch: Tensor, precision: str, is_required: bool
) -> Compilation:
    """Compile a network in place, if that was decided, and pass one batch forward and backward.

    The compiler works when the network is first called. It is called here, before training: so a failure costs no
    training step, and no epoch's time has the compilation in it. Weights, buffers, gradients and generators are left
    as they were.

    Args:
        compilation: what was decided.
        network: on its device, in training mode afterwards.
        batch: images as a training step passes them, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        is_required: whether a failure is an error; otherwise the network stays eager.

    Returns:
        What came of it, the same in all processes.

    Raises:
        UserError: if compilation is required and fails.
    """
    if not compilation.is_on:
        return compilation
    begin, failure = time.perf_counter(), ""
    # In place: names of parameters stay as they are. Dropout draws what it would draw uncompiled.
    network.train().compile(options={"fallback_random": True})
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
            _pass(network, batch, precision)
    except Exception as error:  # of many kinds; what is the network's own fault, an eager step will say again
        failure = first_cause(error)
    network.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    if not distributed.any_process(bool(failure)):
        return replace(compilation, seconds=time.perf_counter() - begin)
    failure = failure or "it failed in another process"
    if is_required:
        raise UserError(
            f"the network cannot be compiled here ({failure}); give false or auto, or install what is missing "
            "(engine.compile)"
        )
    network._compiled_call_impl = None  # what Module.compile has set; PyTorch has no public way back
    return replace(compilation, is_on=False, why=f"no, the network cannot be compiled here ({failure})")


def record_compilation(measurements: MeasurementCache, name: str, compile_seconds: float, step: float) -> None:
    """Note how long it took to compile a network, and how long a training step took then, in seconds."""
    measurements.put(_TOPIC, name, {"compile": compile_seconds, "step": step})


def _eager_seconds(network: nn.Module, batch: Tensor, precision: str) -> float:
    twin, seconds = copy.deepcopy(network), []
    with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
        for _ in range(8):  # the first one pays for what is set up once; others for what else the machine does
            begin = time.perf_counter()
            _pass(twin, batch, precision)
            seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _pass(network: nn.Module, batch: Tensor, precision: str) -> None:
    """Forward and backward, until the device has done it."""
    with autocast(batch.device, precision):
        logits = network(batch)
        loss = functional.cross_entropy(logits, logits.detach().argmax(1))
    loss.backward()
    synchronize(batch.device)
