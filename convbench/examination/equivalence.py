"""Whether all implementations compute the same, in every precision, and which layers the conv takes."""

import statistics
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from convbench.convs.base import Conv2dBase
from convbench.errors import UserError
from convbench.examination.subject import (
    CHANNELS,
    LAYERS,
    Finding,
    Subject,
    difference,
    run,
    seeded,
    sizes,
    terms,
    with_implementation,
)

_LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}  # for sums of up to _TERMS products
_TERMS = 72  # of a 3 x 3 convolution of 8 channels; rounding errors of longer sums grow with the root of their length
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


def contract(subject: Subject) -> Iterator[Finding]:
    """What users of an `nn.Conv2d` rely on: sizes of outputs, a bias if asked for, images apart from each other."""
    faults = []
    for layer in LAYERS:
        try:
            conv = subject.make(layer, dtype=torch.float64).eval()
        except UserError:
            continue
        x = subject.images(batch=3, dtype=torch.float64)
        with torch.no_grad():
            y, alone = conv(x), conv(x[:1])
        wanted = nn.Conv2d(CHANNELS, CHANNELS, **LAYERS[layer], device="meta")(x.float().to("meta")).shape
        if y.shape != wanted:
            faults.append(f"{layer}: the output is {tuple(y.shape[1:])}, of nn.Conv2d {tuple(wanted[1:])}")
        elif not torch.allclose(y[:1], alone, rtol=1e-9, atol=1e-9):
            faults.append(f"{layer}: the output for an image depends on the others of its batch")
    faults += _bias_faults(subject)
    text = "; ".join(faults) or "sizes as of nn.Conv2d, a bias where one is asked for, each image by itself"
    yield Finding("contract", "FAIL" if faults else "PASS", text)


def _bias_faults(subject: Subject) -> list[str]:
    try:
        counts = [sum(value.numel() for value in subject.make(layer).parameters()) for layer in ("3x3", "no bias")]
    except UserError:
        return []
    return [] if counts[0] > counts[1] else ["bias=True makes no parameter that bias=False does not make"]


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
            longer = max(1.0, terms(conv) / _TERMS) ** 0.5
            for dtype, error in _errors(subject, conv, twin).items():
                error /= 1 if dtype == torch.bfloat16 else longer
                worst[dtype] = max(worst[dtype], error) if error == error else error
        passed = all(worst[dtype] <= limit for dtype, limit in _LIMITS.items())
        passed &= worst[torch.bfloat16] <= _AUTOCAST_LIMIT
        text = "error " + ", ".join(f"{error:.0e} {dtype}".replace("torch.", "") for dtype, error in worst.items())
        yield Finding(f"= {implementation or 'itself'}", "PASS" if passed and compared else "FAIL", text)


def _errors(subject: Subject, conv: nn.Module, twin: nn.Module) -> dict[torch.dtype, float]:
    """Relative errors of one layer: float64 and float32, and bfloat16 under autocast."""
    exact = conv.double()
    reference = with_implementation(exact, exact.reference_implementation) if isinstance(exact, Conv2dBase) else exact
    errors = {}
    scale = sizes(reference, subject.images().double())
    for dtype in _LIMITS:
        x = subject.images(dtype=torch.float32).to(dtype)
        # float32 weights and images are float64 ones too, so that only the arithmetic differs
        errors[dtype] = difference(run(twin.to(dtype), x), run(reference, x.double()), scale)
    # Rounding turns a ReLU here and there on or off, no error, but much in images this small: the median.
    errors[torch.bfloat16] = statistics.median(
        _autocast_error(subject, twin, reference, draw, scale) for draw in range(5)
    )
    return errors


def _autocast_error(
    subject: Subject, twin: nn.Module, reference: nn.Module, draw: int, scale: Mapping[str, float]
) -> float:
    x = subject.images(draw=draw)
    wanted = run(reference, x.double())
    with torch.autocast("cpu", torch.bfloat16):
        got = run(twin.float(), x)
    is_sound = all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in got[1].values())
    return difference(got, wanted, scale) if is_sound else float("inf")


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
