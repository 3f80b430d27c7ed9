"""Propagation of activations and gradients through twenty layers at initialisation."""

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
    """Measure how the variance of activations changes in twenty layers of convolution and ReLU, without norms.

    With PyTorch's initialisation of `nn.Conv2d`, each such layer reduces the variance to about a sixth. This is the
    standard of comparison, because the norms of a network restore the variance. A convolution whose factor is more than
    a hundred times larger or smaller needs those norms, and gets a warning.
    """
    factor, standard = _factor(subject.factory, subject.seed), _factor(nn.Conv2d, subject.seed)
    text = f"changes by a factor of {factor:.2g} per layer (standard {standard:.2g})"
    if not math.isfinite(factor) or factor == 0:
        yield Finding("variance", "FAIL", f"{text}: zero or not finite, so that the network cannot learn")
    elif not 0.01 < factor / standard < 100:
        direction = "grows" if factor > standard else "shrinks"
        yield Finding("variance", "WARN", f"{text}: {direction} fast, so that a norm has to follow")
    else:
        yield Finding("variance", "PASS", text)


def gradient(subject: Subject) -> Iterator[Finding]:
    """Measure how the norm of gradients changes through twenty layers of convolution, batch norm and ReLU."""
    convs = _convs(subject.factory, subject.seed)
    x = _input(subject.seed).requires_grad_()
    activations = [x]
    for conv in convs:
        norm = nn.BatchNorm2d(_CHANNELS)
        activations.append(torch.relu(norm(conv(activations[-1]))))
    with seeded(subject.seed):
        weights = torch.randn_like(activations[-1])
    gradients = torch.autograd.grad(activations[-1], [activations[1], activations[-2]], weights)
    first, last = (gradient.norm().item() for gradient in gradients)
    ratio = first / last if last else float("nan")
    text = f"the gradient norm at the first of {_DEPTH} layers with batch norm is {ratio:.2g} times that at the last"
    if not math.isfinite(ratio) or not 1e-4 < ratio < 1e4:
        yield Finding("gradient flow", "FAIL", f"{text}; the first layers will not learn like the last ones")
    else:
        yield Finding("gradient flow", "PASS" if 1e-2 < ratio < 1e2 else "WARN", f"{text} (expected: 0.01 to 100)")


def _convs(factory: Any, seed: int) -> list[nn.Module]:
    with seeded(seed):
        return [factory(_CHANNELS, _CHANNELS, **_LAYER) for _ in range(_DEPTH)]


def _input(seed: int) -> Tensor:
    with seeded(seed + 1):
        return torch.randn(4, _CHANNELS, 12, 12)


def _factor(factory: Any, seed: int) -> float:
    """The factor by which a layer changes the variance: the geometric mean over all layers but the first, in float64.

    NaN if a variance is zero or not finite.
    """
    x, variances = _input(seed).double(), []
    with torch.no_grad():
        for conv in _convs(factory, seed):
            x = torch.relu(conv.double()(x))
            variances.append(x.var().item())
    if not all(math.isfinite(value) and value > 0 for value in variances):
        return float("nan")
    return float((variances[-1] / variances[0]) ** (1 / (_DEPTH - 1)))
