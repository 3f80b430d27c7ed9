"""Parameters and multiply-accumulate operations of each layer, without computing anything.

PyTorch's `FlopCounterMode` knows convolutions and matrix products. What a method multiplies and adds up otherwise, its
class says itself, by a method `multiply_accumulates(input_shape, output_shape)`. Operators that nobody counts are
named: a count that lacks something must not look like one that lacks nothing. (Products that a class of one's own adds
up with `*` and `sum` look like any scaling. They cannot be found, so such a class needs the method.)
"""

import copy
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

# Operators of PyTorch that are no convolution and no matrix product, beside those that it marks as pointwise or as
# views: they move, select, draw, add up, pool, interpolate or normalise. Without the underscores before their names.
_FREE = """
alias all amax amin any arange argmax argmin argsort as_strided bernoulli bernoulli_ bincount cat clone col2im
constant_pad_nd contiguous copy copy_ count_nonzero cummax cummin cumprod cumsum detach embedding empty empty_like
empty_permuted empty_strided equal eye fill fill_ flip full full_like gather im2col index index_add index_copy
index_fill index_put index_select lift lift_fresh lift_fresh_copy linalg_vector_norm linspace local_scalar_dense
log_softmax logsumexp masked_fill masked_scatter masked_select max mean median min new_empty new_empty_strided
new_full new_ones new_zeros nonzero norm ones ones_like prod rand rand_like randint randint_like randn randn_like
randperm repeat reshape_alias resize_ roll safe_softmax scalar_tensor scatter scatter_add scatter_reduce
select_scatter slice_scatter softmax sort stack std std_mean sum take to_copy topk tril triu unsafe_index
unsafe_view var var_mean where zero zero_ zeros zeros_like
"""
_FREE_OPERATORS = frozenset(_FREE.split())
_FREE_KINDS = re.compile(
    r"(native_|fused_|cudnn_|miopen_)?(batch|layer|group|instance|rms)_norm(_\w+)?|native_dropout|"
    r"(adaptive_|fractional_)?(avg|max)_pool\dd(_with_indices)?|upsample_\w+|(reflection|replication)_pad\dd|"
    r"pixel_(un)?shuffle|channel_shuffle"
)


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: qualified, such as `layer1.0.conv1`.
        kind: class name.
        output_shape: `(C, H, W)` or `(features,)`, without the batch.
        kernel: `(K_h, K_w)`, or None for a layer without one.
        parameters: trainable numbers.
        macs: multiply-accumulate operations for one image.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    kernel: tuple[int, int] | None
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """A network layer by layer, and its totals.

    Attributes:
        layers: in the order in which an image passes them.
        parameters: trainable numbers of the whole network.
        macs: multiply-accumulate operations for one image: convolutions, matrix products, and the sums of products that
            a class reports itself; additions, norms, scalings and activations are not counted.
        not_counted: operators that may multiply and add up, of which nobody says how much -> names of the layers that
            use them. `macs` is too low by what they do.
    """

    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    not_counted: dict[str, tuple[str, ...]]

    @property
    def uncounted(self) -> str:
        """What the count lacks, as text: `torchvision::deform_conv2d in 6 layers`; empty if it lacks nothing."""
        return ", ".join(
            f"{operator} in {len(names)} layer{'s' * (len(names) > 1)}" for operator, names in self.not_counted.items()
        )


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def summarise(network: nn.Module, in_channels: int, image_size: int) -> Summary:
    """Count what a network holds and does for one `(in_channels, image_size, image_size)` image.

    A convolution with several implementations is counted as the method defines it, whichever implementation runs: its
    figure says what the idea costs, and speed is measured elsewhere.
    """
    layers, counter = count(network, (1, in_channels, image_size, image_size))
    return Summary(tuple(layers), count_parameters(network), counter.macs, counter.not_counted)


def count(network: nn.Module, shape: tuple[int, int, int, int]) -> "tuple[list[Layer], Counter]":
    """Pass an input `(N, C, H, W)` through a copy of a network, and count for all N images together."""
    try:
        # On the meta device a forward pass knows shapes and nothing else: a 224-pixel ResNet takes milliseconds.
        return _counted(_ghost(network).to("meta"), torch.empty(shape, device="meta"))
    except RuntimeError:  # an operator that cannot do without numbers, or a tensor that stayed where it was
        ghost = _ghost(network)
        is_meta = any(tensor.is_meta for tensor in (*ghost.parameters(), *ghost.buffers()))
        return _counted(ghost.to_empty(device="cpu") if is_meta else ghost.to("cpu"), torch.zeros(shape))


def _ghost(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, its convolutions computed as their methods define them."""
    ghost = copy.deepcopy(network).eval()
    for module in ghost.modules():
        reference_implementation = getattr(module, "reference_implementation", None)
        if reference_implementation is not None:
            cast(Any, module).use(reference_implementation)
    return ghost


def _counted(network: nn.Module, x: Tensor) -> "tuple[list[Layer], Counter]":
    layers: list[Layer] = []
    counter = Counter()
    with _recorded(network, counter, layers), counter.counting(), torch.no_grad():
        network(x)
    return layers, counter


class Counter:
    """Multiply-accumulate operations so far, and what cannot be counted.

    Attributes:
        inside: names of the modules that the input is passing at the moment, the innermost last.
    """

    def __init__(self) -> None:
        self.inside: list[str] = []
        self._flops = FlopCounterMode(display=False)
        self._reported = 0  # by the classes themselves
        self._uncounted: dict[str, set[str]] = defaultdict(set)
        self._is_reporting = 0  # how many of the modules being passed report their own operations

    @property
    def macs(self) -> int:
        """Of everything that was passed so far."""
        return self._flops.get_total_flops() // 2 + self._reported

    @property
    def not_counted(self) -> dict[str, tuple[str, ...]]:
        """Operator -> names of layers, see `Summary`."""
        return {operator: tuple(sorted(names)) for operator, names in sorted(self._uncounted.items())}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is computed within."""
        has_fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one operator, whose matrix products nobody would see
        try:
            with _Uncounted(self), self._flops:
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(has_fast_path)

    def note(self, operator: str) -> None:
        """Take down an operator that nobody counts, unless the class that uses it reports its operations itself."""
        if not self._is_reporting:
            self._uncounted[operator].add(self.inside[-1] if self.inside else "")

    def listen(self, module: nn.Module) -> list[Any]:
        """Take over what a module reports of itself; gives the handles of its hooks."""
        report = getattr(module, "multiply_accumulates", None)
        if report is None:
            return []

        def enter(module: nn.Module, args: Any) -> None:
            self._is_reporting += 1

        def leave(module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
            self._is_reporting -= 1
            self._reported += int(report(_shape([args, keywords]), _shape(output)))

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, with_kwargs=True)]

    def follow(self, name: str, module: nn.Module) -> list[Any]:
        """Know when the input is inside a module; gives the handles of its hooks."""

        def enter(module: nn.Module, args: Any) -> None:
            self.inside.append(name)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.inside.pop()

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


class _Uncounted(TorchDispatchMode):
    """Sees every operator that passes the counter of floating-point operations."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _is_accounted_for(func):
            self.counter.note(func._schema.name)
        return func(*args, **(kwargs or {}))


def _is_accounted_for(operator: Any) -> bool:
    """Whether an operator is counted, or by definition is none of those that are."""
    if operator._overloadpacket in flop_registry or operator.is_view:
        return True
    namespace, _, name = operator._schema.name.partition("::")
    if namespace not in ("aten", "prim", "prims"):
        return False
    name = name.lstrip("_")
    return torch.Tag.pointwise in operator.tags or name in _FREE_OPERATORS or bool(_FREE_KINDS.fullmatch(name))


def _shape(values: Any) -> tuple[int, ...]:
    """The shape of the first tensor among arguments or results, which may be nested."""
    return next((tuple(value.shape) for value in tree_leaves(values) if isinstance(value, Tensor)), ())


@contextmanager
def _recorded(network: nn.Module, counter: Counter, layers: list[Layer]) -> Iterator[None]:
    """Note every layer as a forward pass leaves it; no parameter and no operation is in two rows."""
    handles = []
    noted: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        handles += counter.follow(name or type(module).__name__, module) + counter.listen(module)
    for name, module in _layers(network):
        before: list[tuple[int, int]] = []

        def enter(module: nn.Module, args: Any, before: list[tuple[int, int]] = before) -> None:
            before.append((counter.macs, len(layers)))

        def leave(
            module: nn.Module, args: Any, output: Any, before: list[tuple[int, int]] = before, name: str = name
        ) -> None:
            kernel = getattr(module, "kernel_size", None)
            macs, first = before.pop()
            own = {parameter for parameter in module.parameters() if parameter.requires_grad} - noted
            noted.update(own)
            layers.append(
                Layer(
                    name=name or type(module).__name__,
                    kind=type(module).__name__,
                    output_shape=_shape(output)[1:],
                    kernel=(kernel, kernel) if isinstance(kernel, int) else kernel,
                    parameters=sum(parameter.numel() for parameter in own),
                    macs=counter.macs - macs - sum(layer.macs for layer in layers[first:]),
                )
            )

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers worth a row.

    They are convolutions (with all they are made of), modules without children, and modules that own parameters beside
    their children, such as an embedding of positions.
    """
    children = list(module.named_children())
    if not children or hasattr(module, "kernel_size"):
        if not isinstance(module, nn.Identity):
            yield name, module
        return
    if any(True for _ in module.parameters(recurse=False)):
        yield name, module
    for child_name, child in children:
        yield from _layers(child, f"{name}.{child_name}" if name else child_name)
