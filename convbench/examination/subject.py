"""The convolution type to examine, the findings of an examination, and functions that all examinations share."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase

Verdict = Literal["PASS", "WARN", "FAIL", "SKIP"]
# A relative perturbation, far larger than the rounding errors of float64, and small enough for a linear approximation.
_PERTURBATION = 1e-6
CHANNELS = 8  # enough for groups of 4 channels, and few enough for implementations with Python loops

# The layers to examine: their names, and the arguments of nn.Conv2d in addition to in_channels and out_channels.
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
    """The result of one examination.

    Attributes:
        name: name of the examination.
        verdict: PASS, WARN (the convolution trains, but with a limitation), FAIL, or SKIP (a package is missing).
        text: measured values, and their meaning.
    """

    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Subject:
    """A convolution type to examine.

    Attributes:
        name: name of the convolution in messages.
        factory: callable that builds the convolution from the arguments of `nn.Conv2d`.
        implementation: implementation that the configuration chooses; empty for a class that has only one.
        implementations: names of all implementations; empty for a class that has only one.
        seed: seed of weights and inputs.
        layers: layers to examine: their names, and arguments of `nn.Conv2d` in addition to the channels.
    """

    name: str
    factory: Callable[..., nn.Module]
    implementation: str
    implementations: tuple[str, ...]
    seed: int = 0
    layers: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(LAYERS))

    def make(self, layer: str = "3x3", dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
        """A convolution for one of the `layers`, in training mode.

        Raises:
            UserError: The convolution does not support the layer.
        """
        with seeded(self.seed):
            conv = self.factory(CHANNELS, CHANNELS, **self.layers[layer])
        # A convolution may contain layers that it builds without the arguments device and dtype.
        return conv.to(device=device, dtype=dtype)

    def images(self, batch: int = 2, dtype: torch.dtype = torch.float32, draw: int = 0) -> Tensor:
        """Random images `(batch, CHANNELS, 6, 7)`; each `draw` gives different ones."""
        with seeded(self.seed + 1 + draw):
            return torch.randn(batch, CHANNELS, 6, 7, dtype=dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the random number generator of the CPU, and restore its state at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def with_implementation(conv: nn.Module, implementation: str) -> nn.Module:
    """A copy of a convolution that uses another implementation; the same one if the name is empty.

    Raises:
        UserError: The implementation does not support the layer.
    """
    copied = copy.deepcopy(conv)
    if implementation and isinstance(copied, Conv2dBase):
        copied.use(implementation)
    return copied


Results = tuple[Tensor, dict[str, Tensor]]  # the output, and the gradients of "input" and of each parameter, by name


def run(conv: nn.Module, x: Tensor) -> Results:
    """The output, and the gradients of input and parameters.

    The gradient of the output is fixed, and differs from element to element. Parameters that the output does not depend
    on have the gradient zero.
    """
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
    """The magnitude of the terms that are summed in the output and in each gradient.

    If the terms of a sum have different signs, the sum can be much smaller than its terms, and so has a large relative
    rounding error. Rounding errors have to be compared with the terms instead. A small random perturbation of weights
    and images estimates their magnitude, because the sum changes in proportion to its terms. The estimate is at least
    as large as the result itself.

    Args:
        conv: convolution in float64.
        x: images in float64, `(N, C, H, W)`.

    Returns:
        The magnitude for the output, whose name is empty, and for the gradient of "input" and of each parameter.
    """
    perturbed = copy.deepcopy(conv)
    with seeded(0), torch.no_grad():
        for parameter in perturbed.parameters():
            parameter.mul_(1 + _PERTURBATION * torch.randn_like(parameter))
        perturbed_x = x * (1 + _PERTURBATION * torch.randn_like(x))
    original, other = _by_name(run(conv, x)), _by_name(run(perturbed, perturbed_x))
    sizes = {
        name: max(value.abs().max().item(), (other[name] - value).abs().max().item() / _PERTURBATION, 1e-3)
        for name, value in original.items()
    }
    # The gradient of a bias before a norm is always zero, so that the perturbation does not show the size of its terms.
    # They are as large as those of other gradients.
    least = 0.1 * max(size for name, size in sizes.items() if name)
    return {name: max(size, least) if name else size for name, size in sizes.items()}


def terms(conv: nn.Module) -> int:
    """The number of products in one output element of a layer; the largest over all layers in a convolution."""
    return max((value.numel() // value.shape[0] for value in conv.parameters() if value.ndim > 1), default=1)


def difference(got: Results, wanted: Results, scale: Mapping[str, float]) -> float:
    """The largest absolute difference of the output and all gradients, each relative to `scale`.

    Args:
        got: results to check.
        wanted: expected results.
        scale: magnitude of the terms of output and gradients, see `sizes`.

    Returns:
        Infinity if a shape differs, NaN if a difference is NaN.
    """
    actual, expected = _by_name(got), _by_name(wanted)
    if any(actual[name].shape != expected[name].shape for name in expected):
        return float("inf")
    errors = [(actual[name].double() - expected[name].double()).abs().max().item() / scale[name] for name in expected]
    return max(errors) if all(error == error for error in errors) else float("nan")


def _by_name(results: Results) -> dict[str, Tensor]:
    return {"": results[0], **results[1]}
