"""Replace the convolutions of any network, each with its own random seed, and report the result for every layer."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from convbench.convs.base import AUTO, Conv2dBase, UnsupportedLayerError, one_of
from convbench.convs.scale import has_norms, match_output_scale
from convbench.errors import UserError

SHOWN = 6  # maximum number of names in a message; the rest becomes "and N more"
UNSUPPORTED = ("error", "skip")


@dataclass(frozen=True)
class SwapRow:
    """One convolution of the network and whether it was replaced.

    Attributes:
        name: Qualified name of the layer.
        description: Description of the original layer, such as `16 to 32, 3x3, stride 2`: channels, kernel size, and
            all settings other than the defaults.
        status: `swapped` or `skipped`.
        reason: For a skipped layer, the selector or the refusal of the class. For a swapped layer, the other names of a
            shared module, or empty.
        implementation: Implementation of the new convolution; empty if its class has no choice.
    """

    name: str
    description: str
    status: str
    reason: str
    implementation: str = ""


@dataclass(frozen=True)
class SwapReport:
    """The result of `swap_convs`.

    Attributes:
        kind: Name of the new convolutions, such as `weighted_sum (pointwise)`.
        rows: One row for each convolution, in the order of the modules of the network.
    """

    kind: str
    rows: list[SwapRow] = field(default_factory=list)

    @property
    def swapped(self) -> list[SwapRow]:
        """The rows of replaced convolutions."""
        return [row for row in self.rows if row.status == "swapped"]

    @property
    def skipped(self) -> list[SwapRow]:
        """The rows of convolutions that were not replaced."""
        return [row for row in self.rows if row.status == "skipped"]

    def with_implementations(self, chosen: Mapping[str, str]) -> "SwapReport":
        """Return the report after the choice of implementations.

        Args:
            chosen: Maps the name of a layer to its implementation.
        """
        if not chosen:
            return self
        rows = [replace(row, implementation=chosen.get(row.name, row.implementation)) for row in self.rows]
        counts = Counter(row.implementation for row in rows if row.status == "swapped")
        summary = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return SwapReport(self.kind.replace(f"({AUTO})", f"({AUTO}: {summary})"), rows)

    def summary(self) -> str:
        """Summarise the swap in one line: `14 of 15 convs are weighted_sum (pointwise); skipped: conv1 (first)`."""
        if not self.rows:
            return "the network has no convs to swap"
        if not self.swapped:
            line = f"0 of {len(self.rows)} convs swapped"
        else:
            line = f"{len(self.swapped)} of {len(self.rows)} convs are {self.kind}"
        reasons: dict[str, list[str]] = {}
        for row in self.skipped:
            reasons.setdefault(row.reason, []).append(row.name)
        groups = [f"{_shortened_list(names)} ({reason})" for reason, names in reasons.items()]
        return f"{line}; skipped: {', '.join(groups)}" if groups else line


def swap_convs(
    network: nn.Module,
    factory: Callable[..., nn.Module],
    skip: Sequence[str] = (),
    seed: int = 0,
    unsupported: str = "error",
) -> tuple[nn.Module, SwapReport]:
    """Replace every `nn.Conv2d` of a network, in place.

    Each replacement is built on the CPU with a random seed derived from `seed` and the qualified name of the layer. Its
    initial values therefore depend neither on the other layers, nor on the convolution types, nor on the device. If the
    `state_dict` of a replacement has the names and shapes of that of the replaced layer, the replacement copies the
    values, so that the initialisation or the pretrained weights of the network are kept. In a network without norms,
    all other convolutions of convbench are rescaled to the output scale of the replaced layer (`match_output_scale`).

    Device, dtype, training mode and frozen parameters stay as in the replaced layer. A module that occurs at several
    places of the network is replaced once, by the same object at all places. Modules inside a convolution, old or new,
    are not replaced. Call this function before the optimizer is created, which needs the new parameters.

    Args:
        network: Any module; the root itself may be a convolution.
        factory: Callable with the arguments of `nn.Conv2d`: a class, a `functools.partial` of a class, or the result of
            `conv_factory`.
        skip: Convolutions that are not replaced: `first`, `last`, `1x1`, or patterns of qualified names such as
            `layer1.*`.
        seed: The seed of the run.
        unsupported: Treatment of a layer that the convolution type does not support. `skip` keeps the layer and reports
            the reason; `error` raises.

    Returns:
        The network, which is a new object only if the root was a convolution, and the report.

    Raises:
        UserError: The network is wrapped for data-parallel training, a pattern matches no convolution, or the factory
            refuses a layer, whose name is in the message.
    """
    if unsupported not in UNSUPPORTED:
        raise UserError(f"unsupported is {unsupported!r}; choose {one_of(UNSUPPORTED)} (conv.unsupported)")
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in network.modules()):
        raise UserError(
            "swap_convs got a network wrapped in DistributedDataParallel, which has already registered its parameters; "
            "swap the convs before wrapping the network"
        )
    places: dict[nn.Conv2d, list[str]] = {}
    for name, conv in _convs(network):
        places.setdefault(conv, []).append(name)
    skipped = _skipped(places, skip)
    match_scale = not has_norms(network)

    rows, kind = [], ""
    for conv, names in places.items():
        shown_name, description = _display_name(names[0]), _description(conv)
        if conv in skipped:
            rows.append(SwapRow(shown_name, description, "skipped", skipped[conv]))
            continue
        try:
            replacement = _replacement(conv, names[0], factory, seed, match_scale)
        except UnsupportedLayerError as error:
            if unsupported == "error":
                raise UserError(
                    f"layer {shown_name}: {error}; conv.unsupported=skip leaves such layers unchanged"
                ) from error
            rows.append(SwapRow(shown_name, description, "skipped", str(error)))
            continue
        except UserError as error:
            raise UserError(f"layer {shown_name}: {error}") from error
        for name in names:
            network = _set_module(network, name, replacement)
        kind = kind or _kind(replacement)
        shared = f"shared with {', '.join(map(_display_name, names[1:]))}" if names[1:] else ""
        rows.append(SwapRow(shown_name, description, "swapped", shared, getattr(replacement, "implementation", "")))
    return network, SwapReport(kind, rows)


def _convs(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield the qualified name and the module of every convolution, shared ones once for each name.

    Modules inside a convolution are not visited.
    """
    if isinstance(module, nn.Conv2d):
        yield name, module
    elif not isinstance(module, Conv2dBase):
        for child_name, child in module._modules.items():  # named_children() omits repeated modules
            if child is not None:
                yield from _convs(child, f"{name}.{child_name}" if name else child_name)


def _skipped(places: dict[nn.Conv2d, list[str]], skip: Sequence[str]) -> dict[nn.Conv2d, str]:
    """Map every skipped convolution to the first selector that matches it."""
    if isinstance(skip, str):
        raise UserError(f"skip is {skip!r}; choose a list, such as [{skip}] (conv.skip)")
    convs = list(places)
    skipped: dict[nn.Conv2d, str] = {}
    for selector in skip:
        if selector == "first":
            matches = convs[:1]
        elif selector == "last":
            matches = convs[-1:]
        elif selector == "1x1":
            matches = [conv for conv in convs if conv.kernel_size == (1, 1)]
        else:
            matches = [conv for conv in convs if any(fnmatchcase(name, selector) for name in places[conv])]
        if not matches and selector not in ("first", "last", "1x1"):
            names = _shortened_list([_display_name(name) for names in places.values() for name in names])
            raise UserError(
                f"the selector {selector!r} matches no conv; choose first, last, 1x1 or a pattern of the names "
                f"of the network's convs: {names or 'it has none'} (conv.skip)"
            )
        for conv in matches:
            skipped.setdefault(conv, selector)
    return skipped


def _replacement(
    conv: nn.Conv2d, name: str, factory: Callable[..., nn.Module], seed: int, match_scale: bool
) -> nn.Module:
    """Build the replacement of one convolution, with its geometry, device, dtype and, if the shapes agree, values."""
    device, dtype = conv.weight.device, conv.weight.dtype
    with torch.random.fork_rng(devices=[]):
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        # torch.manual_seed would also reseed the GPUs, whose state fork_rng(devices=[]) does not restore.
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
        new = factory(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta" if device.type == "meta" else "cpu",
            dtype=dtype,
        )
        old_values, new_values = conv.state_dict(), new.state_dict()
        if {key: value.shape for key, value in old_values.items()} == {
            key: value.shape for key, value in new_values.items()
        }:
            new.load_state_dict(old_values)
        elif match_scale and isinstance(new, Conv2dBase) and device.type != "meta":
            match_output_scale(new, conv)
    new.to(device)
    trainable = {key: value.requires_grad for key, value in conv.named_parameters()}
    for key, parameter in new.named_parameters():
        parameter.requires_grad_(trainable.get(key, any(trainable.values())))
    return new.train(conv.training)


def _set_module(network: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Set a module at a qualified name and return the root; an empty name replaces the root itself."""
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
    return network


def _kind(conv: nn.Module) -> str:
    return f"{conv.name} ({conv.implementation})" if isinstance(conv, Conv2dBase) else type(conv).__name__


def _description(conv: nn.Conv2d) -> str:
    parts = [f"{conv.in_channels} to {conv.out_channels}", "x".join(map(str, conv.kernel_size))]
    for key in ("stride", "dilation"):
        value = getattr(conv, key)
        if value != (1, 1):
            parts.append(f"{key} {value[0] if value[0] == value[1] else 'x'.join(map(str, value))}")
    if conv.groups != 1:
        parts.append(f"groups {conv.groups}")
    return ", ".join(parts)


def _display_name(name: str) -> str:
    return name or "(the network itself)"


def _shortened_list(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
