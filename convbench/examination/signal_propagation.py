"""How signals and gradients fare through twenty layers before anything is learned."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convbench.examination.subject import Finding, Subject, seeded

_DEPTH = 20
_CHANNELS = 16
_LAYER: dict[str, Any] = {"kernel_size": 3, "padding": 1, "bias": False}


def variance(subject: Subject) -> Iterator[Finding]:
    """Activations through twenty layers of conv and ReLU, without norms.

    PyTorch's own initialisation makes the variance fall to about a sixth with every such layer; that is taken for
    normal, as norms in the networks bring it back. What changes it a hundred times more or less with each layer needs
    those norms, and says so here.
    """
    factor, standard = _factor(subject.factory, subject.seed), _factor(nn.Conv2d, subject.seed)
    text = f"{factor:.2g} times a layer (standard {standard:.2g})"
    if not math.isfinite(factor) or factor == 0:
        yield Finding("variance", "FAIL", f"{text}: nothing is left to learn from")
    elif not 0.01 < factor / standard < 100:
        which = "grows" if factor > standard else "shrinks"
        yield Finding("variance", "WARN", f"{text}: {which} fast, a norm has to follow")
    else:
        yield Finding("variance", "PASS", text)


def gradient(subject: Subject) -> Iterator[Finding]:
    """Gradients through twenty layers of conv, batch norm and ReLU, as networks have them."""
    convs = _convs(subject.factory, subject.seed)
    x = _input(subject.seed).requires_grad_()
    activations = [x]
    for conv in convs:
        norm = nn.BatchNorm2d(_CHANNELS)
        activations.append(torch.relu(norm(conv(activations[-1]))))
    with seeded(subject.seed):
        weights = torch.randn_like(activations[-1])
    first, last = (
        part.norm().item() for part in torch.autograd.grad(activations[-1], [activations[1], activations[-2]], weights)
    )
    ratio = first / last if last else float("nan")
    text = f"first to last of {_DEPTH} layers with batch norm: {ratio:.2g}"
    if not math.isfinite(ratio) or not 1e-4 < ratio < 1e4:
        yield Finding("gradient flow", "FAIL", f"{text}; early layers will not learn as late ones do")
    else:
        yield Finding("gradient flow", "PASS" if 1e-2 < ratio < 1e2 else "WARN", text)


def _convs(factory: Any, seed: int) -> list[nn.Module]:
    with seeded(seed):
        return [factory(_CHANNELS, _CHANNELS, **_LAYER) for _ in range(_DEPTH)]


def _input(seed: int) -> Tensor:
    with seeded(seed + 1):
        return torch.randn(4, _CHANNELS, 12, 12)


def _factor(factory: Any, seed: int) -> float:
    """By how much the variance changes with a layer: the geometric mean over all but the first, in float64."""
    x, variances = _input(seed).double(), []
    with torch.no_grad():
        for conv in _convs(factory, seed):
            x = torch.relu(conv.double()(x))
            variances.append(x.var().item())
    if not all(math.isfinite(value) and value > 0 for value in variances):
        return float("nan")
    return float((variances[-1] / variances[0]) ** (1 / (_DEPTH - 1)))
