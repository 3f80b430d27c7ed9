"""Numerical equivalence of all implementations in every precision, and the layers that a convolution supports."""

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

_LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}  # relative errors allowed for sums of up to _TERMS products
# The number of products in a 3 x 3 convolution of 8 channels. Rounding errors of longer sums grow with the square root
# of their length.
_TERMS = 72
_AUTOCAST_LIMIT = 0.1


def layers(subject: Subject) -> Iterator[Finding]:
    """Construct the convolution for every layer of `LAYERS`, and report which ones it supports."""
    supported, refused = [], []
    for layer in LAYERS:
        try:
            subject.make(layer, device="meta")
            supported.append(layer)
        except UserError:
            refused.append(layer)
    text = f"supports {', '.join(supported) or 'no layer'}" + (f"; refuses {', '.join(refused)}" if refused else "")
    yield Finding("layers", "PASS" if "3x3" in supported else "FAIL", text)


def contract(subject: Subject) -> Iterator[Finding]:
    """Check the contract of `nn.Conv2d`: the output shape, the parameter `bias`, and independence of the images."""
    faults = []
    for layer in LAYERS:
        try:
            conv = subject.make(layer, dtype=torch.float64).eval()
        except UserError:
            continue
        x = subject.images(batch=3, dtype=torch.float64)
        with torch.no_grad():
            y, y_of_first = conv(x), conv(x[:1])
        expected = nn.Conv2d(CHANNELS, CHANNELS, **LAYERS[layer], device="meta")(x.float().to("meta")).shape
        if y.shape != expected:
            faults.append(f"{layer}: output shape {tuple(y.shape[1:])}, but nn.Conv2d has {tuple(expected[1:])}")
        elif not torch.allclose(y[:1], y_of_first, rtol=1e-9, atol=1e-9):
            faults.append(f"{layer}: the output of an image depends on other images of the batch")
    faults += _bias_faults(subject)
    text = "; ".join(faults) or "output shapes of nn.Conv2d, bias optional, images independent of each other"
    yield Finding("contract", "FAIL" if faults else "PASS", text)


def _bias_faults(subject: Subject) -> list[str]:
    try:
        counts = [sum(value.numel() for value in subject.make(layer).parameters()) for layer in ("3x3", "no bias")]
    except UserError:
        return []
    return [] if counts[0] > counts[1] else ["bias=True adds no parameters"]


def implementations(subject: Subject) -> Iterator[Finding]:
    """Compare each implementation with the reference implementation in float64, over all layers that both support."""
    for implementation in subject.implementations or ("",):
        worst = {dtype: 0.0 for dtype in _LIMITS} | {torch.bfloat16: 0.0}
        compared = 0
        for layer in LAYERS:
            try:
                conv = subject.make(layer)
                other = with_implementation(conv, implementation)
            except UserError:
                continue
            compared += 1
            error_growth = max(1.0, terms(conv) / _TERMS) ** 0.5
            for dtype, error in _errors(subject, conv, other).items():
                error /= 1 if dtype == torch.bfloat16 else error_growth
                worst[dtype] = max(worst[dtype], error) if error == error else error
        passed = all(worst[dtype] <= limit for dtype, limit in _LIMITS.items())
        passed &= worst[torch.bfloat16] <= _AUTOCAST_LIMIT
        limits = _LIMITS | {torch.bfloat16: _AUTOCAST_LIMIT}
        errors = [f"{error:.0e} in {dtype} (limit {limits[dtype]:g})" for dtype, error in worst.items()]
        text = f"largest relative error {', '.join(errors)}".replace("torch.", "") if compared else "supports no layer"
        yield Finding(f"= {implementation or 'itself'}", "PASS" if passed and compared else "FAIL", text)


def _errors(subject: Subject, conv: nn.Module, other: nn.Module) -> dict[torch.dtype, float]:
    """Relative errors of one layer in float64, in float32, and under autocast to bfloat16."""
    exact = conv.double()
    reference = with_implementation(exact, exact.reference_implementation) if isinstance(exact, Conv2dBase) else exact
    errors = {}
    scale = sizes(reference, subject.images().double())
    for dtype in _LIMITS:
        x = subject.images(dtype=torch.float32).to(dtype)
        # All weights and images are exact in float32 and in float64, so that only the arithmetic differs.
        errors[dtype] = difference(run(other.to(dtype), x), run(reference, x.double()), scale)
    # Rounding may change the sign of the input of a ReLU. This is no error of the implementation, but it has a large
    # effect in images this small. The median over several draws excludes it.
    errors[torch.bfloat16] = statistics.median(
        _autocast_error(subject, other, reference, draw, scale) for draw in range(5)
    )
    return errors


def _autocast_error(
    subject: Subject, other: nn.Module, reference: nn.Module, draw: int, scale: Mapping[str, float]
) -> float:
    x = subject.images(draw=draw)
    expected = run(reference, x.double())
    with torch.autocast("cpu", torch.bfloat16):
        got = run(other.float(), x)
    is_valid = all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in got[1].values())
    return difference(got, expected, scale) if is_valid else float("inf")


def gradients(subject: Subject) -> Iterator[Finding]:
    """Compare the gradients with finite differences; only for a convolution without a second implementation."""
    if len(subject.implementations) > 1:
        return
    conv = subject.make(dtype=torch.float64)
    x = subject.images(batch=1, dtype=torch.float64)[..., :4, :4].clone().requires_grad_()
    with seeded(subject.seed):
        is_correct = torch.autograd.gradcheck(conv, (x,), raise_exception=False, fast_mode=True)
        parameters = [parameter for parameter in conv.parameters() if parameter.requires_grad]
        is_correct &= torch.autograd.gradcheck(
            lambda *values: torch.func.functional_call(
                conv, dict(zip(dict(conv.named_parameters()), values, strict=True)), (x.detach(),)
            ),
            tuple(parameter.detach().clone().requires_grad_() for parameter in parameters),
            raise_exception=False,
            fast_mode=True,
        )
    text = "agree with finite differences" if is_correct else "differ from finite differences"
    yield Finding("gradients", "PASS" if is_correct else "FAIL", text)
