"""The conv type under examination, and what an examination says of it."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase

Verdict = Literal["PASS", "WARN", "FAIL", "SKIP"]
_TINY = 1e-6  # a relative change, far above the precision of float64 and far below everything else
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
            conv = self.factory(CHANNELS, CHANNELS, **self.layers[layer])
        return conv.to(device=device, dtype=dtype)  # layers inside a conv may ignore arguments of this name

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


Results = tuple[Tensor, dict[str, Tensor]]  # an output, and gradients by the name of what they are of


def run(conv: nn.Module, x: Tensor) -> Results:
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


def sizes(conv: nn.Module, x: Tensor) -> dict[str, float]:
    """How large the numbers are that are summed up to the output ("") and to each gradient.

    A sum of large numbers of both signs may be small, as the gradient of a single factor is, and no arithmetic gives it
    more exactly than its parts. How large these are, tells a tiny random change of everything that is summed: the sum
    changes in proportion to them. Results that are no such sums are as large as they are.

    Args:
        conv: in float64.
        x: images in float64, `(N, C, H, W)`.
    """
    shaken = copy.deepcopy(conv)
    with seeded(0), torch.no_grad():
        for parameter in shaken.parameters():
            parameter.mul_(1 + _TINY * torch.randn_like(parameter))
        shaken_x = x * (1 + _TINY * torch.randn_like(x))
    plain, other = _flat(run(conv, x)), _flat(run(shaken, shaken_x))
    sizes = {
        name: max(value.abs().max().item(), (other[name] - value).abs().max().item() / _TINY, 1e-3)
        for name, value in plain.items()
    }
    # Before a norm, the gradient of a bias is zero whatever it sums up; its parts are as large as other gradients.
    least = 0.1 * max(size for name, size in sizes.items() if name)
    return {name: max(size, least) if name else size for name, size in sizes.items()}


def terms(conv: nn.Module) -> int:
    """The most products that one number of a layer's output adds up, of all layers inside a conv."""
    return max((value.numel() // value.shape[0] for value in conv.parameters() if value.ndim > 1), default=1)


def difference(got: Results, wanted: Results, scale: Mapping[str, float]) -> float:
    """The largest difference of output or gradients, relative to the `sizes` of what they sum up."""
    ours, theirs = _flat(got), _flat(wanted)
    if any(ours[name].shape != theirs[name].shape for name in theirs):
        return float("inf")
    errors = [(ours[name].double() - theirs[name].double()).abs().max().item() / scale[name] for name in theirs]
    return max(errors) if all(error == error for error in errors) else float("nan")


def _flat(results: Results) -> dict[str, Tensor]:
    return {"": results[0], **results[1]}
