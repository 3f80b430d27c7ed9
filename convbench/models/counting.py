"""Parameters and multiply-accumulate operations (MACs) of each layer, counted on meta tensors without any computation.

`FlopCounterMode` of PyTorch counts convolutions and matrix products. A module that computes further sums of products
reports their number by a method `multiply_accumulates(input_shape, output_shape)`. The summary lists all other
operators that may multiply and add, so that an incomplete count is visible. Sums of products that a user's class
computes by `*` and `sum` cannot be distinguished from element-wise scaling; such a class needs the method.
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

# Operators of PyTorch without multiply-accumulate operations, in addition to those that it marks as pointwise or as
# views: they copy, select, draw random numbers, reduce, pool, interpolate or normalise. Names without leading
# underscores.
_NAMES_WITHOUT_MACS = """
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
_WITHOUT_MACS = frozenset(_NAMES_WITHOUT_MACS.split())
_WITHOUT_MACS_PATTERN = re.compile(
    r"(native_|fused_|cudnn_|miopen_)?(batch|layer|group|instance|rms)_norm(_\w+)?|native_dropout|"
    r"(adaptive_|fractional_)?(avg|max)_pool\dd(_with_indices)?|upsample_\w+|(reflection|replication)_pad\dd|"
    r"pixel_(un)?shuffle|channel_shuffle"
)


@dataclass(frozen=True)
class Layer:
    """The size and the cost of one layer of a network.

    Attributes:
        name: Qualified name, such as `layer1.0.conv1`.
        kind: Class name.
        output_shape: Shape of the output without the batch, `(C, H, W)` or `(features,)`.
        kernel: Kernel size `(K_h, K_w)`, or None for a layer without a kernel.
        parameters: Number of trainable parameters.
        macs: Number of multiply-accumulate operations for one image.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    kernel: tuple[int, int] | None
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """The layers of a network and their totals.

    Attributes:
        layers: Layers in the order of the forward pass.
        parameters: Number of trainable parameters of the network.
        macs: Number of multiply-accumulate operations for one image: those of convolutions, of matrix products, and
            those that modules report. Additions, norms, scalings and activations are not counted.
        not_counted: Maps each operator that may multiply and add, but has no count, to the names of the layers that
            use it. `macs` does not include its operations.
    """

    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    not_counted: dict[str, tuple[str, ...]]

    @property
    def uncounted(self) -> str:
        """The operators without a count as text, such as `torchvision::deform_conv2d in 6 layers`; empty if none."""
        return ", ".join(
            f"{operator} in {len(names)} layer{'s' * (len(names) > 1)}" for operator, names in self.not_counted.items()
        )


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def summarise(network: nn.Module, in_channels: int, image_size: int) -> Summary:
    """Count the parameters and operations of a network for one image `(in_channels, image_size, image_size)`.

    Convolutions with several implementations are counted by their reference implementation, whichever is in use,
    because the number of operations describes the method. `convbench.bench` measures the speed of implementations.
    """
    layers, counter = count(network, (1, in_channels, image_size, image_size))
    return Summary(tuple(layers), count_parameters(network), counter.macs, counter.not_counted)


def count(network: nn.Module, shape: tuple[int, int, int, int]) -> "tuple[list[Layer], Counter]":
    """Run a copy of a network on an input `(N, C, H, W)` and count the operations for all N images together."""
    try:
        # The meta device only propagates shapes, so that a ResNet with 224-pixel images takes milliseconds.
        return _count_forward(_reference_copy(network).to("meta"), torch.empty(shape, device="meta"))
    except RuntimeError:  # an operator does not support meta tensors, or a tensor is not registered in a module
        reference = _reference_copy(network)
        is_meta = any(tensor.is_meta for tensor in (*reference.parameters(), *reference.buffers()))
        on_cpu = reference.to_empty(device="cpu") if is_meta else reference.to("cpu")
        return _count_forward(on_cpu, torch.zeros(shape))


def _reference_copy(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose convolutions use their reference implementations."""
    reference = copy.deepcopy(network).eval()
    for module in reference.modules():
        reference_implementation = getattr(module, "reference_implementation", None)
        if reference_implementation is not None:
            cast(Any, module).use(reference_implementation)
    return reference


def _count_forward(network: nn.Module, x: Tensor) -> "tuple[list[Layer], Counter]":
    layers: list[Layer] = []
    counter = Counter()
    with _record_layers(network, counter, layers), counter.counting(), torch.no_grad():
        network(x)
    return layers, counter


class Counter:
    """The multiply-accumulate operations so far, and the operators without a count.

    Attributes:
        inside: Names of the modules whose forward pass is running, the innermost last.
    """

    def __init__(self) -> None:
        self.inside: list[str] = []
        self._flops = FlopCounterMode(display=False)
        self._reported_macs = 0  # sum of the results of `multiply_accumulates`
        self._uncounted: dict[str, set[str]] = defaultdict(set)
        self._reporting_depth = 0  # number of running modules with a method `multiply_accumulates`

    @property
    def macs(self) -> int:
        """The number of multiply-accumulate operations so far."""
        return self._flops.get_total_flops() // 2 + self._reported_macs

    @property
    def not_counted(self) -> dict[str, tuple[str, ...]]:
        """The operators without a count and the names of their layers, see `Summary`."""
        return {operator: tuple(sorted(names)) for operator, names in sorted(self._uncounted.items())}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the operations inside this context."""
        has_fast_path = torch.backends.mha.get_fastpath_enabled()
        # The fast path of attention is a single operator, whose matrix products FlopCounterMode does not count.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with _UncountedOperators(self), self._flops:
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(has_fast_path)

    def note(self, operator: str) -> None:
        """Record an operator without a count, unless it runs inside a module that reports its operations."""
        if not self._reporting_depth:
            self._uncounted[operator].add(self.inside[-1] if self.inside else "")

    def listen(self, module: nn.Module) -> list[Any]:
        """Add hooks that call `multiply_accumulates` of a module, if it has this method; return their handles."""
        report = getattr(module, "multiply_accumulates", None)
        if report is None:
            return []

        def enter(module: nn.Module, args: Any) -> None:
            self._reporting_depth += 1

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._reporting_depth -= 1
            self._reported_macs += int(report(_shape([args, kwargs]), _shape(output)))

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, with_kwargs=True)]

    def follow(self, name: str, module: nn.Module) -> list[Any]:
        """Add hooks that keep the name of a module in `inside` during its forward pass; return their handles."""

        def enter(module: nn.Module, args: Any) -> None:
            self.inside.append(name)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.inside.pop()

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


class _UncountedOperators(TorchDispatchMode):
    """Records the operators that `FlopCounterMode` does not count."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _is_accounted_for(func):
            self.counter.note(func._schema.name)
        return func(*args, **(kwargs or {}))


def _is_accounted_for(operator: Any) -> bool:
    """Return whether `FlopCounterMode` counts an operator, or the operator has no multiply-accumulate operations."""
    if operator._overloadpacket in flop_registry or operator.is_view:
        return True
    namespace, _, name = operator._schema.name.partition("::")
    if namespace not in ("aten", "prim", "prims"):
        return False
    name = name.lstrip("_")
    return torch.Tag.pointwise in operator.tags or name in _WITHOUT_MACS or bool(_WITHOUT_MACS_PATTERN.fullmatch(name))


def _shape(values: Any) -> tuple[int, ...]:
    """Return the shape of the first tensor in nested arguments or results."""
    return next((tuple(value.shape) for value in tree_leaves(values) if isinstance(value, Tensor)), ())


@contextmanager
def _record_layers(network: nn.Module, counter: Counter, layers: list[Layer]) -> Iterator[None]:
    """Append each layer to `layers` at the end of its forward pass.

    Each parameter and each operation counts for one layer only: operations of an inner layer are not repeated in the
    outer one, and shared parameters belong to the first layer that uses them.
    """
    handles = []
    recorded: set[nn.Parameter] = set()
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
            own = {parameter for parameter in module.parameters() if parameter.requires_grad} - recorded
            recorded.update(own)
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
    """Yield the name and the module of each layer of the summary.

    These are convolutions (including all their submodules), modules without children, and modules that have parameters
    of their own in addition to their children, such as a position embedding.
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
