"""Whether all implementations compute the same, in every precision, and which layers the conv takes."""

import statistics
from collections.abc import Iterator

import torch
from torch import nn

from convbench.convs.base import Conv2dBase
from convbench.errors import UserError
from convbench.examine.subject import LAYERS, Finding, Subject, difference, run, seeded, with_implementation

_LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}
_AUTOCAST_LIMIT = 0.1


def layers(subject: Subject) -> Iterator[Finding]:
    """Ask the constructor which layers it takes."""
    taken, refused = [], []
    for layer in LAYERS:
        try:
            subject.make(layer, device="meta")
            taken.append(layer)
        except UserError:
            refused.append(layer)
    text = f"takes {', '.join(taken) or 'nothing'}" + (f"; refuses {', '.join(refused)}" if refused else "")
    yield Finding("layers", "PASS" if "3x3" in taken else "FAIL", text)


def implementations(subject: Subject) -> Iterator[Finding]:
    """Compare each implementation with the defining one in float64, over all layers that both take."""
    for implementation in subject.implementations or ("",):
        worst = {dtype: 0.0 for dtype in _LIMITS} | {torch.bfloat16: 0.0}
        compared = 0
        for layer in LAYERS:
            try:
                conv = subject.make(layer)
                twin = with_implementation(conv, implementation)
            except UserError:
                continue
            compared += 1
            for dtype, error in _errors(subject, conv, twin).items():
                worst[dtype] = max(worst[dtype], error) if error == error else error
        passed = all(worst[dtype] <= limit for dtype, limit in _LIMITS.items())
        passed &= worst[torch.bfloat16] <= _AUTOCAST_LIMIT
        text = "error " + ", ".join(f"{error:.0e} {dtype}".replace("torch.", "") for dtype, error in worst.items())
        yield Finding(f"= {implementation or 'itself'}", "PASS" if passed and compared else "FAIL", text)


def _errors(subject: Subject, conv: nn.Module, twin: nn.Module) -> dict[torch.dtype, float]:
    """Relative errors of one layer: float64 and float32, and bfloat16 under autocast."""
    exact = conv.double()
    reference = with_implementation(exact, exact.counted_as) if isinstance(exact, Conv2dBase) else exact
    errors = {}
    for dtype in _LIMITS:
        x = subject.images(dtype=torch.float32).to(dtype)
        # float32 weights and images are float64 ones too, so that only the arithmetic differs
        errors[dtype] = difference(run(twin.to(dtype), x), run(reference, x.double()))
    # Rounding turns a ReLU here and there on or off, no error, but much in images this small: the median.
    errors[torch.bfloat16] = statistics.median(_autocast_error(subject, twin, reference, draw) for draw in range(5))
    return errors


def _autocast_error(subject: Subject, twin: nn.Module, reference: nn.Module, draw: int) -> float:
    x = subject.images(draw=draw)
    wanted = run(reference, x.double())
    with torch.autocast("cpu", torch.bfloat16):
        got = run(twin.float(), x)
    is_sound = all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in got[1].values())
    return difference(got, wanted) if is_sound else float("inf")


def gradients(subject: Subject) -> Iterator[Finding]:
    """Compare the gradients with differences of outputs; only for a conv that has no second implementation to tell."""
    if len(subject.implementations) > 1:
        return
    conv = subject.make(dtype=torch.float64)
    x = subject.images(batch=1, dtype=torch.float64)[..., :4, :4].clone().requires_grad_()
    with seeded(subject.seed):
        is_right = torch.autograd.gradcheck(conv, (x,), raise_exception=False, fast_mode=True)
        parameters = [parameter for parameter in conv.parameters() if parameter.requires_grad]
        is_right &= torch.autograd.gradcheck(
            lambda *values: torch.func.functional_call(
                conv, dict(zip(dict(conv.named_parameters()), values, strict=True)), (x.detach(),)
            ),
            tuple(parameter.detach().clone().requires_grad_() for parameter in parameters),
            raise_exception=False,
            fast_mode=True,
        )
    text = "agree with differences of outputs" if is_right else "differ from differences of outputs"
    yield Finding("gradients", "PASS" if is_right else "FAIL", text)
