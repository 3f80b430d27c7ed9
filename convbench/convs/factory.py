"""From the keys of a `conf/conv/NAME.yaml` to a factory that builds one convolution for each layer it replaces."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from convbench.convs.base import one_of
from convbench.convs.constructor import constructor_parameters
from convbench.errors import UserError

GEOMETRY = tuple(inspect.signature(nn.Conv2d).parameters)
OVERRIDES = ("bias", "groups")


class ConvOption(NamedTuple):
    """The keys of the group `conv`: a factory of convolutions, and which layers it replaces.

    Attributes:
        target: the class, or its dotted path.
        arguments: its own arguments, and `bias` and `groups` for every layer.
        skip, unsupported: as in `swap_convs`.
    """

    target: str
    arguments: dict[str, Any]
    skip: list[str]
    unsupported: str

    @classmethod
    def of(cls, keys: Mapping[str, Any]) -> "ConvOption":
        """Separate the keys of the class from those of the swap."""
        arguments = dict(keys)
        target, skip, unsupported = (arguments.pop(key) for key in ("_target_", "skip", "unsupported"))
        return cls(target, arguments, skip, unsupported)

    @property
    def factory(self) -> Callable[..., nn.Module]:
        """Builds one convolution with `nn.Conv2d`'s arguments; raises as `conv_factory` does."""
        return conv_factory(self.target, **self.arguments)


def conv_factory(target: str | type[nn.Module], **arguments: Any) -> Callable[..., nn.Module]:
    """Check a conv type and its arguments once, and give a callable with `nn.Conv2d`'s constructor.

    Args:
        target: A class with `nn.Conv2d`'s constructor and arguments of its own, or the dotted path of one.
        **arguments: Its own arguments. `bias` and `groups`, where not null, replace those of the replaced layer; all
            other geometry comes from that layer. A class without implementations may be given `implementation`, which
            it then does not see: the key may stem from the yaml whose `_target_` the class has taken.

    Returns:
        The factory for `swap_convs`.

    Raises:
        UserError: The path leads to no `nn.Module` class, its constructor lacks an argument of `nn.Conv2d`, or an
            argument is unknown, missing, or belongs to the replaced layer.
    """
    kind = conv_class(target)
    parameters, takes_any = constructor_parameters(kind)
    own = [name for name in parameters if name not in GEOMETRY]
    if not takes_any:
        if "implementation" not in own:
            arguments.pop("implementation", None)
        _check_geometry(kind, parameters)
        _check_arguments(kind, own, arguments)
    missing = [name for name in own if parameters[name].default is inspect.Parameter.empty and name not in arguments]
    if missing:
        raise UserError(f"{kind.__name__} needs a value for {missing[0]!r} (conv.{missing[0]})")
    given = {key: value for key, value in arguments.items() if key not in OVERRIDES or value is not None}

    def build(*geometry: Any, **layer: Any) -> nn.Module:
        # nn.Conv2d's optional arguments may come by position; then they have names all the same.
        named = {**dict(zip(GEOMETRY, geometry, strict=False)), **layer, **given}
        try:
            return kind(**named)
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(f"{kind.__name__} does not take these values: {error} (conv)") from error

    return build


def conv_class(target: str | type[nn.Module]) -> type[nn.Module]:
    """Import the class at a dotted path, or take the class given, and check that it is a module's.

    Raises:
        UserError: The path leads to no `nn.Module` class.
    """
    found: Any = target
    if isinstance(target, str):
        module_path, _, class_name = target.rpartition(".")
        if not module_path:
            raise UserError(f"{target!r} is no path of a class; choose one such as my_package.MyConv2d (conv._target_)")
        try:
            found = getattr(importlib.import_module(module_path), class_name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{target!r} cannot be imported: {error} (conv._target_)") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{target!r} is no class derived from torch.nn.Module (conv._target_)")
    return found


def _check_geometry(conv_class: type[nn.Module], parameters: Mapping[str, inspect.Parameter]) -> None:
    lacking = [name for name in GEOMETRY if name not in parameters]
    if lacking:
        raise UserError(
            f"{conv_class.__name__} takes no {one_of(lacking)}; a conv type needs the arguments of nn.Conv2d: "
            f"{', '.join(GEOMETRY)} (conv._target_)"
        )


def _check_arguments(conv_class: type[nn.Module], own: list[str], arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name in own or name in OVERRIDES:
            continue
        if name in GEOMETRY:
            raise UserError(f"{name} comes from the layer that is replaced; remove it (conv.{name})")
        raise UserError(
            f"{conv_class.__name__} has no argument {name!r}; choose {one_of([*own, *OVERRIDES])} (conv.{name})"
        )
