"""`engine.compile`: the decision whether compilation saves more time than it takes, and the compilation itself."""

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
# Defaults for a network that was never compiled on this device: the seconds of a compilation, and the fraction of a
# step that it saves. On CPUs the fraction was between 0 and 1/3, depending on the machine. A compiled run records its
# own measurements, which replace these defaults in later runs.
_COMPILE_SECONDS = 60.0
_FRACTION_SAVED = {"cpu": 0.1, "cuda": 0.3}
# A run below these limits counts as a trial, and a trial should not wait for the compiler.
_TRIAL_STEPS, _TRIAL_EPOCHS = 50, 3
_SAFETY_FACTOR = 1.5  # compile only if the estimated saving is this many times the cost, as the estimate may be wrong


@dataclass(frozen=True)
class Compilation:
    """The decision whether to compile a network.

    Attributes:
        name: Name of the network, under which its measurements are stored.
        is_on: Whether the network is compiled.
        why: The estimate of the decision for the user, or the reason why the compilation failed; empty if the user made
            the decision and nothing failed.
        seconds: Time of the compilation, in seconds; None if the network was not compiled.
    """

    name: str
    is_on: bool
    why: str = ""
    seconds: float | None = None


def set_compile_cache(folder: Path) -> None:
    """Store compiled code in `folder`, so that later runs reuse it, also after a restart of the machine.

    This must be called before an optimizer is constructed: the constructor imports the compiler, which reads the
    environment variable at import.
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
    """Decide whether compilation saves more time than it takes.

    A few eager steps of a copy of the network are timed. The time of a compiled step and of the compilation come from
    earlier runs of the same network, or from default values.

    Args:
        network: The network, on its device and not compiled; it is not changed.
        batch: Images as in training, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        epochs: Number of epochs of the run.
        steps: Number of steps of the whole run.
        measurements: The measurements of earlier runs.
        name: Name of the network, under which its measurements are stored.
    """
    if steps < _TRIAL_STEPS or epochs <= _TRIAL_EPOCHS:
        return Compilation(name, False, f"no, the run is too short ({epochs} epoch{'s' * (epochs > 1)}, {steps} steps)")
    eager = _eager_seconds(network, batch, precision)
    known = measurements.get(_TOPIC, name) or {}
    if not {"compile", "step"} <= known.keys():
        known = {"compile": _COMPILE_SECONDS, "step": (1 - _FRACTION_SAVED.get(batch.device.type, 0.0)) * eager}
    cost, saved = known["compile"], max(0.0, steps * (eager - known["step"]))
    is_on = saved > _SAFETY_FACTOR * cost
    return Compilation(
        name, is_on, f"{'yes' if is_on else 'no'}, compilation takes about {cost:.0f} s and saves about {saved:.0f} s"
    )


def compile_network(
    compilation: Compilation, network: nn.Module, batch: Tensor, precision: str, is_required: bool
) -> Compilation:
    """Compile a network in place, if `compilation.is_on`, and run one forward and backward pass.

    PyTorch compiles a network at its first call. This call happens here, before training, so that a failure costs no
    training step and no epoch's time includes the compilation. Parameters and buffers keep their values, gradients are
    None afterwards, and the random number generators are restored.

    Args:
        compilation: The decision.
        network: The network, on its device; it is in training mode afterwards.
        batch: Images as in training, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        is_required: Whether a failure is an error; otherwise the network stays eager.

    Returns:
        The decision with the time of the compilation, or with the reason of its failure; `is_on` is the same in all
        processes.

    Raises:
        UserError: The compilation is required and fails.
    """
    if not compilation.is_on:
        return compilation
    begin, failure = time.perf_counter(), ""
    # Module.compile keeps the names of the parameters. With fallback_random, dropout draws the same numbers as without
    # compilation.
    network.train().compile(options={"fallback_random": True})
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
            _forward_backward(network, batch, precision)
    except Exception as error:  # the compiler raises many types; an error of the network itself recurs in an eager step
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
            f"the network cannot be compiled on this machine ({failure}); give false or auto, or install what is "
            "missing (engine.compile)"
        )
    network._compiled_call_impl = None  # undoes Module.compile; PyTorch has no public method for it
    return replace(compilation, is_on=False, why=f"no, the network cannot be compiled on this machine ({failure})")


def record_compilation(measurements: MeasurementCache, name: str, compile_seconds: float, step: float) -> None:
    """Store the times of a compiled run for the decisions of later runs.

    Args:
        measurements: The measurements of this device.
        name: Name of the network.
        compile_seconds: Time of the compilation, in seconds.
        step: Time of a compiled training step, in seconds.
    """
    measurements.put(_TOPIC, name, {"compile": compile_seconds, "step": step})


def _eager_seconds(network: nn.Module, batch: Tensor, precision: str) -> float:
    duplicate, seconds = copy.deepcopy(network), []
    with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
        for _ in range(8):  # the minimum excludes initialisation in the first pass and other load on the machine
            begin = time.perf_counter()
            _forward_backward(duplicate, batch, precision)
            seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _forward_backward(network: nn.Module, batch: Tensor, precision: str) -> None:
    """Run a forward and a backward pass and wait for the device."""
    with autocast(batch.device, precision):
        logits = network(batch)
        loss = functional.cross_entropy(logits, logits.detach().argmax(1))
    loss.backward()
    synchronize(batch.device)
