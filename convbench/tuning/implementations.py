"""`conv.implementation=auto`: time the implementations of each layer where it stands, and keep the fastest.

What is timed is what training does: forward and backward, at the batch, the memory format and the precision of the run.
Layers that are alike are timed once; what was found is kept in a file, so that the next run on the same device with the
same versions does not measure again.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from convbench.convs.base import AUTO, Conv2dBase
from convbench.engine.device import autocast
from convbench.errors import UserError
from convbench.tuning.clock import Times, in_turns
from convbench.tuning.measurements import MeasurementCache

_TOPIC = "seconds of implementations"
_ROUNDS = 9
_GIVE_UP = 1.5  # times as long as the fastest: no noise makes up for that


def choose_implementations(
    network: nn.Module,
    batch: Tensor,
    precision: str,
    measurements: MeasurementCache,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give every convolution whose implementation is `auto` the fastest that it has.

    Args:
        network: on its device, in training mode; nothing but implementations changes.
        batch: images as the network will see them, `(N, C, H, W)`.
        precision: `none`, `bf16` or `fp16`.
        measurements: earlier measurements.
        known: name -> implementation, chosen before for a run that is resumed, whose numbers must not change, or by
            another process.

    Returns:
        Name of each such layer -> its implementation; empty where nothing is left to choose.
    """
    layers = _undecided(network)
    if not layers:
        return {}
    if known:
        return use_implementations(network, known)
    inputs = _inputs(network, layers, batch, precision)
    for name, conv in layers.items():
        # a forward pass need not reach every layer
        conv.use(
            _fastest(conv, inputs[name], precision, measurements) if name in inputs else conv.reference_implementation
        )
    return {name: conv.implementation for name, conv in layers.items()}


def use_implementations(network: nn.Module, chosen: Mapping[str, str]) -> dict[str, str]:
    """Give every convolution whose implementation is `auto` the one that was chosen for it before.

    Args:
        network: nothing but implementations changes.
        chosen: name -> implementation; a layer that it lacks takes the defining one.

    Returns:
        Name of each such layer -> its implementation.
    """
    layers = _undecided(network)
    for name, conv in layers.items():
        conv.use(chosen.get(name, conv.reference_implementation))
    return {name: conv.implementation for name, conv in layers.items()}


def _undecided(network: nn.Module) -> dict[str, Conv2dBase]:
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Conv2dBase) and module.implementation == AUTO
    }


def medians(conv: Conv2dBase, x: Tensor, precision: str, rounds: int = _ROUNDS) -> dict[str, Times]:
    """Time forward and backward of every implementation that takes the layer.

    Args:
        conv: on its device.
        x: its input `(N, C, H, W)`; random numbers of this shape, dtype and memory format are what is convolved.
        precision: `none`, `bf16` or `fp16`.
        rounds: measurements of each.
    """
    calls: dict[str, Callable[[], object]] = {}
    for implementation in conv.implementations:
        if conv.only_on.get(implementation, x.device.type) != x.device.type:
            continue  # computes as another one here
        twin = copy.deepcopy(conv)
        try:
            twin.use(implementation)
            call = training_call(twin, x, precision)
            call()
        except UserError:  # refuses the layer, or as the pure Python loops its size
            continue
        calls[implementation] = call
    return in_turns(calls, x.device, rounds, _GIVE_UP)


def training_call(conv: nn.Module, like: Tensor, precision: str, has_gradient: bool = True) -> Callable[[], object]:
    """What is to be timed of a layer: forward and, as in training, backward to its input and its parameters.

    Args:
        conv: on its device.
        like: the input's shape, dtype and memory format.
        precision: `none`, `bf16` or `fp16`.
        has_gradient: False for the forward pass alone.
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
    x.requires_grad_(like.shape[1] > 3)  # images themselves need no gradient
    wanted: list[Tensor] = [parameter for parameter in conv.parameters() if parameter.requires_grad]
    wanted += [x] if x.requires_grad else []
    with context:
        gradient = torch.ones_like(conv(x))

    def both() -> object:
        with context:
            y = conv(x)
        return torch.autograd.grad(y, wanted, gradient)

    return both


def _fastest(conv: Conv2dBase, x: Tensor, precision: str, measurements: MeasurementCache) -> str:
    layout = "channels_last" if x.is_contiguous(memory_format=torch.channels_last) else "channels_first"
    parameters = ", ".join(f"{name} {tuple(parameter.shape)}" for name, parameter in conv.named_parameters())
    image = f"{tuple(x.shape)} {x.dtype} {layout}, autocast {precision}"
    layer = f"{conv.name}: {conv.extra_repr()}; {parameters}; {image}; forward and backward"
    known = measurements.get(_TOPIC, layer)
    if known is None or not set(known) <= set(conv.implementations):
        known = {name: times.median for name, times in medians(conv, x, precision).items()}
        measurements.put(_TOPIC, layer, known)
    return min(known, key=lambda name: known[name])


def _inputs(network: nn.Module, layers: Mapping[str, nn.Module], batch: Tensor, precision: str) -> dict[str, Tensor]:
    """What reaches each layer, from one forward pass in evaluation mode."""
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = torch.empty_like(inputs[0])

        return hook

    hooks = [conv.register_forward_pre_hook(note(name)) for name, conv in layers.items()]
    was_training = network.training
    try:
        with torch.no_grad(), autocast(batch.device, precision):
            network.eval()(batch)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return found
