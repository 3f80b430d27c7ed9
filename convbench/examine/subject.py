"""The conv type under examination, and what an examination says of it."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase

Verdict = Literal["PASS", "WARN", "FAIL", "SKIP"]
CHANNELS = 8  # enough for groups of 4; the pure Python loops still follow

# A name for each layer, and nn.Conv2d's arguments beside CHANNELS to CHANNELS.
LAYERS: dict[str, dict[str, Any]] = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "stride 2": {"kernel_size": 3, "padding": 1, "stride": 2},
    "1x1": {"kernel_size": 1},
    "5x5": {"kernel_size": 5, "padding": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "no padding": {"kernel_size": 3},
}


@dataclass(frozen=True)
class Finding:
    """What one examination came to.

    Attributes:
        name: of the examination.
        verdict: PASS, WARN (it trains, but mind this), FAIL, or SKIP (could not be examined here).
        text: what was measured, and what it means.
    """

    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Subject:
    """A conv type.

    Attributes:
        name: for a person.
        factory: takes `nn.Conv2d`'s arguments.
        implementation: the one its configuration chooses; empty for a class without implementations.
        implementations: all of them.
        seed: of weights and inputs.
    """

    name: str
    factory: Callable[..., nn.Module]
    implementation: str
    implementations: tuple[str, ...]
    seed: int = 0
    layers: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(LAYERS))

    def make(self, layer: str = "3x3", dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
        """A conv for a layer of `LAYERS`, in training mode.

        Raises:
            UserError: the conv refuses the layer.
        """
        with seeded(self.seed):
            return self.factory(CHANNELS, CHANNELS, **self.layers[layer], device=device, dtype=dtype)

    def images(self, batch: int = 2, dtype: torch.dtype = torch.float32, draw: int = 0) -> Tensor:
        """Random images `(batch, CHANNELS, 6, 7)`; others for each `draw`."""
        with seeded(self.seed + 1 + draw):
            return torch.randn(batch, CHANNELS, 6, 7, dtype=dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def with_implementation(conv: nn.Module, implementation: str) -> nn.Module:
    """A copy that computes in another way; an empty name changes nothing.

    Raises:
        UserError: the implementation refuses the layer.
    """
    twin = copy.deepcopy(conv)
    if implementation and isinstance(twin, Conv2dBase):
        twin.use(implementation)
    return twin


def run(conv: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradients of input and parameters for one fixed, uneven gradient of the output."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = conv(x)
    inputs = {"input": x, **{key: value for key, value in conv.named_parameters() if value.requires_grad}}
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view(y.shape)
    gradients = torch.autograd.grad(y, list(inputs.values()), weights, allow_unused=True)
    return y.detach(), {
        key: torch.zeros_like(inputs[key]) if gradient is None else gradient
        for key, gradient in zip(inputs, gradients, strict=True)
    }


def difference(got: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]]) -> float:
    """The largest difference of output or gradients, relative to the largest number of the wanted tensor."""
    errors = []
    for a, b in [(got[0], wanted[0]), *((got[1][key], wanted[1][key]) for key in wanted[1])]:
        if a.shape != b.shape:
            return float("inf")
        errors.append(((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-3)).item())
    return max(errors) if all(error == error for error in errors) else float("nan")
