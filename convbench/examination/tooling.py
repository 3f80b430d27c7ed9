"""Whether the tools around a network can follow the conv: the compiler, the counter of multiplications, ONNX."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convbench.errors import UserError
from convbench.examination.subject import CHANNELS, LAYERS, Finding, Subject, with_implementation
from convbench.models.counting import Counter, count


def compilation(subject: Subject) -> Iterator[Finding]:
    """Count graphs while the temperature and the batch size change; no code is generated."""
    import torch._dynamo as dynamo

    graphs = 0

    def count(module: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module.forward

    dynamo.reset()
    conv = subject.make()
    compiled = torch.compile(conv, backend=count)
    try:
        with _quiet():
            compiled(subject.images(4))
            first = graphs
            for temperature in (7.0, 3.0):
                _set_temperature(conv, temperature)
                compiled(subject.images(4))
            after_temperature = graphs
            for batch in (6, 9, 12):
                compiled(subject.images(batch))
    finally:
        dynamo.reset()
    again = graphs - after_temperature
    text = f"{first} graph{'s' * (first != 1)}, {again} more for three other batch sizes"
    if after_temperature > first:
        text = f"compiles again when the temperature changes; keep it in a buffer and fill that ({text})"
        yield Finding("torch.compile", "FAIL", text)
        return
    if hasattr(conv, "temperature"):
        text += ", none for temperatures"
    yield Finding("torch.compile", "PASS" if first == 1 and again <= 1 else "WARN", text)


def _set_temperature(conv: nn.Module, value: float) -> None:
    """Change the temperature as a schedule would: a buffer in place, anything else by assignment."""
    temperature = getattr(conv, "temperature", None)
    if isinstance(temperature, Tensor):
        temperature.fill_(value)
    elif temperature is not None:
        conv.temperature = value  # type: ignore[assignment]


def counting(subject: Subject) -> Iterator[Finding]:
    """What tables will say of the conv's multiplications, and whether they will say all."""
    conv = subject.make()
    counter, more = _count(conv, 2), _count(conv, 4)
    standard = _count(nn.Conv2d(CHANNELS, CHANNELS, **LAYERS["3x3"]), 2)
    if counter.not_counted:
        text = f"does not count {', '.join(counter.not_counted)}: MACs are too low; a method multiply_accumulates helps"
        yield Finding("FLOP counter", "WARN", text)
    elif counter.macs == 0:
        yield Finding("FLOP counter", "WARN", "sees nothing: tables will say 0 MACs")
    else:
        is_proportional = more.macs >= 1.5 * counter.macs
        text = f"sees {counter.macs / standard.macs:.2f} of the standard conv's multiplications"
        if is_proportional:
            yield Finding("FLOP counter", "PASS", text)
        else:
            yield Finding("FLOP counter", "WARN", f"{text}, and no more for more images")


def _count(conv: nn.Module, batch: int) -> Counter:
    return count(conv, (batch, CHANNELS, 6, 7))[1]


def onnx(subject: Subject) -> Iterator[Finding]:
    """Export with a free batch size, and compare the numbers at another one."""
    if any(importlib.util.find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")):
        yield Finding("ONNX", "SKIP", "not examined: pip install 'convbench[onnx]'")
        return
    chosen = subject.implementation
    others = [name for name in subject.implementations if name != chosen]
    for implementation in (chosen, *others):
        try:
            error = _onnx_error(with_implementation(subject.make().eval(), implementation), subject)
        except UserError:
            continue
        except Exception:  # the exporter has many ways to say no
            continue
        if not error < 1e-4:
            yield Finding("ONNX", "FAIL", f"{implementation} computes something else in ONNX: {error:.0e} off")
        elif implementation == chosen:
            yield Finding("ONNX", "PASS", "exported for any batch size")
        else:
            yield Finding("ONNX", "WARN", f"{chosen} cannot be exported for any batch size; {implementation} can")
        return
    yield Finding("ONNX", "WARN", "cannot be exported for any batch size")


def _onnx_error(conv: nn.Module, subject: Subject) -> float:
    """Export for 2 images, run with 5; gives the largest difference relative to the largest output."""
    import onnxruntime

    file = io.BytesIO()
    with _quiet():
        shapes = ({0: torch.export.Dim("batch", min=2, max=64)},)
        program: Any = torch.onnx.export(conv, (subject.images(2),), dynamo=True, dynamic_shapes=shapes, verbose=False)
        program.save(file)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    x = subject.images(5)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = conv(x)
    return ((torch.from_numpy(y) - wanted).abs().max() / wanted.abs().max()).item()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what compilers and exporters print to themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
