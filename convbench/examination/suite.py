"""All examinations of a convolution type, and the summary of their findings."""

from collections.abc import Callable, Iterator, Sequence

from convbench.examination import equivalence, reproducibility, signal_propagation, tooling
from convbench.examination.subject import Finding, Subject

_EXAMINATIONS: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "layers": equivalence.layers,
    "contract": equivalence.contract,
    "implementations": equivalence.implementations,
    "gradients": equivalence.gradients,
    "variance": signal_propagation.variance,
    "gradient flow": signal_propagation.gradient,
    "state_dict": reproducibility.state,
    "determinism": reproducibility.determinism,
    "channels_last": reproducibility.channels_last,
    "torch.compile": tooling.compilation,
    "FLOP counter": tooling.counting,
    "ONNX": tooling.onnx,
}


def examine(subject: Subject) -> Iterator[Finding]:
    """Run all examinations of a convolution type.

    An exception in an examination becomes a finding with the verdict FAIL, and the next examination runs.
    """
    for name, examination in _EXAMINATIONS.items():
        try:
            yield from examination(subject)
        except Exception as error:  # the class of a user may raise any exception
            first_line = (str(error).splitlines() or [""])[0]
            yield Finding(name, "FAIL", f"{type(error).__name__}: {first_line}")


def summary(findings: Sequence[Finding]) -> str:
    """A short summary: `PASS (14 checks)`, `PASS, 1 warning (ONNX)`, `FAIL (state_dict), 1 warning (ONNX)`."""
    failed, warned = ([one.name for one in findings if one.verdict == verdict] for verdict in ("FAIL", "WARN"))
    if not failed and not warned:
        return f"PASS ({len(findings)} checks)"
    text = f"FAIL ({', '.join(failed)})" if failed else "PASS"
    return text + (f", {len(warned)} warning{'s' * (len(warned) > 1)} ({', '.join(warned)})" if warned else "")
