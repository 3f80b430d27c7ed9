"""`conv.implementation=auto`: measure the implementations of each layer and choose the fastest.

The forward and the backward pass of the layer are timed, with the input shape, the memory format and the precision of
the run. Equal layers are timed once. The times are stored in a file, so that later runs on the same device with the
same versions need not measure them again.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from convbench.convs.base import AUTO, Conv2dBase
from convbench.engine.device import autocast
from convbench.errors import UserError
from convbench.tuning.clock import Times, time_interleaved
from convbench.tuning.measurements import MeasurementCache

_TOPIC = "seconds of implementations"
_ROUNDS = 9
_GIVE_UP = 1.5  # a candidate this many times slower than the fastest cannot be faster because of measurement noise


def choose_implementations(
    network: nn.Module,
    batch: Tensor,
    precision: str,
    measurements: MeasurementCache,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Choose the fastest implementation of every convolution whose implementation is `auto`.

    Args:
        network: The network, on its device and in training mode. Only its implementations are changed.
        batch: Images as in training, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        measurements: The stored measurements of this device.
        known: Name of a layer -> implementation, if the choice was made before: by a run that is resumed, whose results
            must not change, or by process 0.

    Returns:
        Name of each of these layers -> its implementation; empty if no implementation is `auto`.
    """
    layers = _auto_layers(network)
    if not layers:
        return {}
    if known:
        return use_implementations(network, known)
    inputs = _layer_inputs(network, layers, batch, precision)
    for name, conv in layers.items():
        # A layer has no input if the forward pass does not call it.
        conv.use(
            _fastest(conv, inputs[name], precision, measurements) if name in inputs else conv.reference_implementation
        )
    return {name: conv.implementation for name, conv in layers.items()}


def use_implementations(network: nn.Module, chosen: Mapping[str, str]) -> dict[str, str]:
    """Set the implementation of every convolution whose implementation is `auto` to an earlier choice.

    Args:
        network: The network. Only its implementations are changed.
        chosen: Name of a layer -> implementation. Layers without an entry use the reference implementation.

    Returns:
        Name of each of these layers -> its implementation.
    """
    layers = _auto_layers(network)
    for name, conv in layers.items():
        conv.use(chosen.get(name, conv.reference_implementation))
    return {name: conv.implementation for name, conv in layers.items()}


def _auto_layers(network: nn.Module) -> dict[str, Conv2dBase]:
    """Name -> convolution, for each convolution whose implementation is `auto`."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Conv2dBase) and module.implementation == AUTO
    }


def medians(conv: Conv2dBase, x: Tensor, precision: str, rounds: int = _ROUNDS) -> dict[str, Times]:
    """Time the forward and the backward pass of every implementation that supports a layer.

    Args:
        conv: The layer, on its device; it is not changed.
        x: An input, `(N, C, H, W)`. The timed input has random values and the same shape, dtype and memory format.
        precision: `none`, `bf16` or `fp16`.
        rounds: Number of measurements of each implementation.

    Returns:
        Implementation -> times.
    """
    calls: dict[str, Callable[[], object]] = {}
    for implementation in conv.implementations:
        if conv.only_on.get(implementation, x.device.type) != x.device.type:
            continue  # on other devices it falls back to another implementation
        duplicate = copy.deepcopy(conv)
        try:
            duplicate.use(implementation)
            call = training_call(duplicate, x, precision)
            call()
        except UserError:  # the layer is unsupported, or its input is too large for the pure Python loops
            continue
        calls[implementation] = call
    return time_interleaved(calls, x.device, rounds, _GIVE_UP)


def training_call(conv: nn.Module, like: Tensor, precision: str, has_gradient: bool = True) -> Callable[[], object]:
    """A function that runs a layer as in training: forward, then backward to its parameters and its input.

    The gradient of an input with at most 3 channels is not computed, because it is taken for an image.

    Args:
        conv: The layer, on its device.
        like: A tensor with the shape, dtype and memory format of the input.
        precision: `none`, `bf16` or `fp16`.
        has_gradient: False for the forward pass only.
    """
    with torch.random.fork_rng(devices=[]):
        x = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    context = autocast(x.device, precision)
    if not has_gradient:

        def forward() -> object:
            with torch.no_grad(), context:
                return conv(x)

        return forward
    x.requires_grad_(like.shape[1] > 3)
    inputs: list[Tensor] = [parameter for parameter in conv.parameters() if parameter.requires_grad]
    inputs += [x] if x.requires_grad else []
    with context:
        gradient = torch.ones_like(conv(x))

    def forward_backward() -> object:
        with context:
            y = conv(x)
        return torch.autograd.grad(y, inputs, gradient)

    return forward_backward


def _fastest(conv: Conv2dBase, x: Tensor, precision: str, measurements: MeasurementCache) -> str:
    """The name of the fastest implementation, from stored or new measurements."""
    layout = "channels_last" if x.is_contiguous(memory_format=torch.channels_last) else "channels_first"
    parameters = ", ".join(f"{name} {tuple(parameter.shape)}" for name, parameter in conv.named_parameters())
    image = f"{tuple(x.shape)} {x.dtype} {layout}, autocast {precision}"
    layer = f"{conv.name}: {conv.extra_repr()}; {parameters}; {image}; forward and backward"
    known = measurements.get(_TOPIC, layer)
    if known is None or not set(known) <= set(conv.implementations):
        known = {name: times.median for name, times in medians(conv, x, precision).items()}
        measurements.put(_TOPIC, layer, known)
    return min(known, key=lambda name: known[name])


def _layer_inputs(
    network: nn.Module, layers: Mapping[str, nn.Module], batch: Tensor, precision: str
) -> dict[str, Tensor]:
    """Name -> uninitialised tensor like the input of the layer, from a forward pass in evaluation mode."""
    found: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = torch.empty_like(inputs[0])

        return hook

    hooks = [conv.register_forward_pre_hook(record(name)) for name, conv in layers.items()]
    was_training = network.training
    try:
        with torch.no_grad(), autocast(batch.device, precision):
            network.eval()(batch)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return found
