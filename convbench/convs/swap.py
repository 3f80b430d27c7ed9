"""Replace the convolutions of any network, each under its own random numbers, and report what was done."""

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

SHOWN = 6  # names listed in a message before "and N more"
UNSUPPORTED = ("error", "skip")


@dataclass(frozen=True)
class SwapRow:
    """One convolution of the network.

    Attributes:
        name: qualified.
        description: what it was, as in `16 to 32, 3x3, stride 2`: channels, kernel, what differs from a plain layer.
        status: `swapped` or `skipped`.
        reason: why.
        implementation: what the new one computes with; empty where there is no choice.
    """

    name: str
    description: str
    status: str
    reason: str
    implementation: str = ""


@dataclass(frozen=True)
class SwapReport:
    """What `swap_convs` did: `kind` names the new convolutions, `rows` follow the order of the network's modules."""

    kind: str
    rows: list[SwapRow] = field(default_factory=list)

    @property
    def swapped(self) -> list[SwapRow]:
        """The rows of replaced convolutions."""
        return [row for row in self.rows if row.status == "swapped"]

    @property
    def skipped(self) -> list[SwapRow]:
        """The rows of convolutions left as they were."""
        return [row for row in self.rows if row.status == "skipped"]

    def with_implementations(self, chosen: Mapping[str, str]) -> "SwapReport":
        """The same after implementations were chosen: name of a layer -> its implementation."""
        if not chosen:
            return self
        rows = [replace(row, implementation=chosen.get(row.name, row.implementation)) for row in self.rows]
        counts = Counter(row.implementation for row in rows if row.status == "swapped")
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return SwapReport(self.kind.replace(f"({AUTO})", f"({AUTO}: {found})"), rows)

    def summary(self) -> str:
        """Say it in a line: `14 of 15 convs are weighted_sum (pointwise); skipped: conv1 (first)`."""
        if not self.rows:
            return "the network has no convs to swap"
        if not self.swapped:
            line = f"0 of {len(self.rows)} convs swapped"
        else:
            line = f"{len(self.swapped)} of {len(self.rows)} convs are {self.kind}"
        reasons: dict[str, list[str]] = {}
        for row in self.skipped:
            reasons.setdefault(row.reason, []).append(row.name)
        groups = [f"{_shortened(names)} ({reason})" for reason, names in reasons.items()]
        return f"{line}; skipped: {', '.join(groups)}" if groups else line


def swap_convs(
    network: nn.Module,
    factory: Callable[..., nn.Module],
    skip: Sequence[str] = (),
    seed: int = 0,
    unsupported: str = "error",
) -> tuple[nn.Module, SwapReport]:
    """Replace every `nn.Conv2d` of a network, in place.

    Each replacement is built on the CPU under its own random numbers, seeded from `seed` and the layer's qualified
    name: its initial values depend neither on the other layers, nor on their type, nor on the device. A replacement
    whose `state_dict` has the replaced layer's names and shapes takes over its values, so a network's own or pretrained
    initialisation survives; in a network without norms every other one of convbench starts with outputs as large as
    those of the replaced layer, see `match_output_scale`. Device, dtype, training mode and frozen parameters stay as in
    the replaced layer. A layer that occurs at several places is replaced once, by the same object everywhere. Nothing
    inside a convolution, old or new, is touched. Swap before the optimizer is made: it must see the new parameters.

    Args:
        network: Any module; its root may be a convolution itself.
        factory: Takes the arguments of `nn.Conv2d`; a class, a partial of one, or what `conv_factory` gives.
        skip: What stays: `first`, `last`, `1x1`, or patterns on qualified names such as `layer1.*`.
        seed: The seed of the run.
        unsupported: What becomes of a layer that the conv type cannot take: `skip` leaves it as it is and says so in
            the report, `error` raises.

    Returns:
        The network (a new object only where the root was a convolution) and the report.

    Raises:
        UserError: The network is wrapped for data-parallel training, a pattern matches nothing, or the factory refuses
            a layer; the message names it.
    """
    if unsupported not in UNSUPPORTED:
        raise UserError(f"unsupported is {unsupported!r}; choose {one_of(UNSUPPORTED)} (conv.unsupported)")
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in network.modules()):
        raise UserError(
            "swap_convs got a network wrapped in DistributedDataParallel, which has noted its parameters already; "
            "swap the convs first and wrap afterwards"
        )
    places: dict[nn.Conv2d, list[str]] = {}
    for name, conv in _convs(network):
        places.setdefault(conv, []).append(name)
    skipped = _skipped(places, skip)
    keeps_size = not has_norms(network)

    rows, kind = [], ""
    for conv, names in places.items():
        shown, description = _shown(names[0]), _described(conv)
        if conv in skipped:
            rows.append(SwapRow(shown, description, "skipped", skipped[conv]))
            continue
        try:
            replacement = _replacement(conv, names[0], factory, seed, keeps_size)
        except UnsupportedLayerError as error:
            if unsupported == "error":
                raise UserError(
                    f"layer {shown}: {error}; conv.unsupported=skip leaves such layers as they are"
                ) from error
            rows.append(SwapRow(shown, description, "skipped", str(error)))
            continue
        except UserError as error:
            raise UserError(f"layer {shown}: {error}") from error
        for name in names:
            network = _put(network, name, replacement)
        kind = kind or _kind(replacement)
        also = f"shared with {', '.join(map(_shown, names[1:]))}" if names[1:] else ""
        rows.append(SwapRow(shown, description, "swapped", also, getattr(replacement, "implementation", "")))
    return network, SwapReport(kind, rows)


def _convs(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield every place of a convolution, shared ones at each of theirs, and enter no convolution."""
    if isinstance(module, nn.Conv2d):
        yield name, module
    elif not isinstance(module, Conv2dBase):
        for child_name, child in module._modules.items():  # named_children() would leave out repeated modules
            if child is not None:
                yield from _convs(child, f"{name}.{child_name}" if name else child_name)


def _skipped(places: dict[nn.Conv2d, list[str]], skip: Sequence[str]) -> dict[nn.Conv2d, str]:
    """Map every convolution that stays to the selector that chose it."""
    if isinstance(skip, str):
        raise UserError(f"skip is {skip!r}; choose a list, such as [{skip}] (conv.skip)")
    convs = list(places)
    chosen: dict[nn.Conv2d, str] = {}
    for selector in skip:
        if selector == "first":
            found = convs[:1]
        elif selector == "last":
            found = convs[-1:]
        elif selector == "1x1":
            found = [conv for conv in convs if conv.kernel_size == (1, 1)]
        else:
            found = [conv for conv in convs if any(fnmatchcase(name, selector) for name in places[conv])]
        if not found and selector not in ("first", "last", "1x1"):
            names = _shortened([_shown(name) for names in places.values() for name in names])
            raise UserError(
                f"the selector {selector!r} matches no conv; choose first, last, 1x1 or a pattern on the names "
                f"of the network's convs: {names or 'it has none'} (conv.skip)"
            )
        for conv in found:
            chosen.setdefault(conv, selector)
    return chosen


def _replacement(
    conv: nn.Conv2d, name: str, factory: Callable[..., nn.Module], seed: int, keeps_size: bool
) -> nn.Module:
    """Build what replaces one convolution, with its geometry, device, dtype and, where they fit, its values."""
    device, dtype = conv.weight.device, conv.weight.dtype
    with torch.random.fork_rng(devices=[]):
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        # torch.manual_seed would reseed the GPUs too, outside of what fork_rng restores.
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
        elif keeps_size and isinstance(new, Conv2dBase) and device.type != "meta":
            match_output_scale(new, conv)
    new.to(device)
    trainable = {key: value.requires_grad for key, value in conv.named_parameters()}
    for key, parameter in new.named_parameters():
        parameter.requires_grad_(trainable.get(key, any(trainable.values())))
    return new.train(conv.training)


def _put(network: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Set a module at a qualified name and return the root, which changes where the name is empty."""
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
    return network


def _kind(conv: nn.Module) -> str:
    return f"{conv.name} ({conv.implementation})" if isinstance(conv, Conv2dBase) else type(conv).__name__


def _described(conv: nn.Conv2d) -> str:
    parts = [f"{conv.in_channels} to {conv.out_channels}", "x".join(map(str, conv.kernel_size))]
    for key in ("stride", "dilation"):
        value = getattr(conv, key)
        if value != (1, 1):
            parts.append(f"{key} {value[0] if value[0] == value[1] else 'x'.join(map(str, value))}")
    if conv.groups != 1:
        parts.append(f"groups {conv.groups}")
    return ", ".join(parts)


def _shown(name: str) -> str:
    return name or "(the network itself)"


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
