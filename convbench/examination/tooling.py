"""Support of a convolution by tools: torch.compile, the counter of multiply-accumulate operations, ONNX export."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convbench.examination.subject import CHANNELS, LAYERS, Finding, Subject, with_implementation
from convbench.models.counting import Counter, count


def compilation(subject: Subject) -> Iterator[Finding]:
    """Count the graphs that torch.compile captures when the temperature and the batch size change.

    The backend of the compiler only counts graphs, and generates no code.
    """
    import torch._dynamo as dynamo

    graphs = 0

    def count_graph(module: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module.forward

    dynamo.reset()
    conv = subject.make()
    compiled = torch.compile(conv, backend=count_graph)
    try:
        with _suppressed_output():
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
    for_batch_sizes = graphs - after_temperature
    text = f"{first} graph{'s' * (first != 1)} (expected: 1), {for_batch_sizes} more for other batch sizes (at most 1)"
    if after_temperature > first:
        text = f"recompiles when the temperature changes; store it in a buffer and change that in place ({text})"
        yield Finding("torch.compile", "FAIL", text)
        return
    if hasattr(conv, "temperature"):
        text += ", none for other temperatures"
    yield Finding("torch.compile", "PASS" if first == 1 and for_batch_sizes <= 1 else "WARN", text)


def _set_temperature(conv: nn.Module, value: float) -> None:
    """Change the temperature like a schedule does: a buffer in place, a Python number by assignment."""
    temperature = getattr(conv, "temperature", None)
    if isinstance(temperature, Tensor):
        temperature.fill_(value)
    elif temperature is not None:
        conv.temperature = value  # type: ignore[assignment]


def counting(subject: Subject) -> Iterator[Finding]:
    """Check that the multiply-accumulate operations (MACs) of the convolution are counted completely."""
    conv = subject.make()
    counter, counter_of_twice = _count(conv, 2), _count(conv, 4)
    standard = _count(nn.Conv2d(CHANNELS, CHANNELS, **LAYERS["3x3"]), 2)
    if counter.not_counted:
        text = f"cannot count {', '.join(counter.not_counted)}: tables show too few MACs; add a method "
        yield Finding("FLOP counter", "WARN", f"{text}multiply_accumulates to the class")
    elif counter.macs == 0:
        yield Finding("FLOP counter", "WARN", "counts nothing: tables show 0 MACs")
    else:
        is_proportional = counter_of_twice.macs >= 1.5 * counter.macs
        text = f"counts {counter.macs / standard.macs:.2f} times the MACs of the standard convolution"
        if is_proportional:
            yield Finding("FLOP counter", "PASS", text)
        else:
            yield Finding("FLOP counter", "WARN", f"{text}, but not more for a larger batch")


def _count(conv: nn.Module, batch: int) -> Counter:
    return count(conv, (batch, CHANNELS, 6, 7))[1]


def onnx(subject: Subject) -> Iterator[Finding]:
    """Export to ONNX with a dynamic batch size, and compare the outputs for another batch size with those of PyTorch.

    If the export of the chosen implementation fails, the other implementations are tried.
    """
    if any(importlib.util.find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")):
        yield Finding("ONNX", "SKIP", "not examined, packages are missing: pip install 'convbench[onnx]'")
        return
    chosen = subject.implementation
    others = [name for name in subject.implementations if name != chosen]
    for implementation in (chosen, *others):
        try:
            error = _onnx_error(with_implementation(subject.make().eval(), implementation), subject)
        except Exception:  # the exporter raises many types, and an implementation that refuses the layer a UserError
            continue
        if not error < 1e-4:
            text = f"{implementation or 'the convolution'} has a relative error of {error:.0e} in ONNX Runtime"
            yield Finding("ONNX", "FAIL", text)
        elif implementation == chosen:
            yield Finding("ONNX", "PASS", "exported with a dynamic batch size")
        else:
            text = f"{chosen} cannot be exported with a dynamic batch size; {implementation} can"
            yield Finding("ONNX", "WARN", text)
        return
    yield Finding("ONNX", "WARN", "cannot be exported with a dynamic batch size")


def _onnx_error(conv: nn.Module, subject: Subject) -> float:
    """The largest error relative to the largest output, for an export with 2 images and a run with 5 images."""
    import onnxruntime

    file = io.BytesIO()
    with _suppressed_output():
        shapes = ({0: torch.export.Dim("batch", min=2, max=64)},)
        program: Any = torch.onnx.export(conv, (subject.images(2),), dynamo=True, dynamic_shapes=shapes, verbose=False)
        program.save(file)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    x = subject.images(5)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = conv(x)
    return ((torch.from_numpy(y) - expected).abs().max() / expected.abs().max()).item()


@contextlib.contextmanager
def _suppressed_output() -> Iterator[None]:
    """Suppress output, log lines and warnings of the compiler and the exporter."""
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
