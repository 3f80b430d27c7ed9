"""Build convolutions from the keys of a `conf/conv/NAME.yaml`: one factory, called once for each replaced layer."""

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
    """The configuration group `conv`: a convolution type, its arguments, and the layers that it replaces.

    Attributes:
        target: Dotted path of the class.
        arguments: Arguments of the class, and the values of `bias` and `groups` for every layer.
        skip: Layers that are not replaced, see `swap_convs`.
        unsupported: Treatment of layers that the class does not support, see `swap_convs`.
    """

    target: str
    arguments: dict[str, Any]
    skip: list[str]
    unsupported: str

    @classmethod
    def of(cls, keys: Mapping[str, Any]) -> "ConvOption":
        """Separate the arguments of the class from those of the swap."""
        arguments = dict(keys)
        target, skip, unsupported = (arguments.pop(key) for key in ("_target_", "skip", "unsupported"))
        return cls(target, arguments, skip, unsupported)

    @property
    def factory(self) -> Callable[..., nn.Module]:
        """A callable that builds one convolution from the arguments of `nn.Conv2d`; see `conv_factory`."""
        return conv_factory(self.target, **self.arguments)


def conv_factory(target: str | type[nn.Module], **arguments: Any) -> Callable[..., nn.Module]:
    """Check a convolution type and its arguments once, and return a callable with the arguments of `nn.Conv2d`.

    Args:
        target: A class whose constructor takes the arguments of `nn.Conv2d` and possibly others, or its dotted path.
        **arguments: Further arguments of the class. `bias` and `groups`, unless None, override those of the replaced
            layer. All other geometry comes from that layer. If the class has no argument `implementation`, a value for
            it is ignored: the key may come from the yaml of another convolution whose `_target_` was overridden.

    Returns:
        The factory for `swap_convs`.

    Raises:
        UserError: The path does not name an `nn.Module` class, its constructor lacks an argument of `nn.Conv2d`, or an
            argument is unknown, missing, or determined by the replaced layer.
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
        # Positional arguments get their names, so that `given` can override them.
        named = {**dict(zip(GEOMETRY, geometry, strict=False)), **layer, **given}
        try:
            return kind(**named)
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(f"{kind.__name__} does not take these values: {error} (conv)") from error

    return build


def conv_class(target: str | type[nn.Module]) -> type[nn.Module]:
    """Import a class by its dotted path, or take the given class, and check that it is an `nn.Module` class.

    Raises:
        UserError: The path does not name an `nn.Module` class.
    """
    found: Any = target
    if isinstance(target, str):
        module_path, _, class_name = target.rpartition(".")
        if not module_path:
            raise UserError(
                f"{target!r} is not the dotted path of a class; choose one such as my_package.MyConv2d (conv._target_)"
            )
        try:
            found = getattr(importlib.import_module(module_path), class_name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{target!r} cannot be imported: {error} (conv._target_)") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{target!r} is not a class derived from torch.nn.Module (conv._target_)")
    return found


def _check_geometry(conv_class: type[nn.Module], parameters: Mapping[str, inspect.Parameter]) -> None:
    lacking = [name for name in GEOMETRY if name not in parameters]
    if lacking:
        raise UserError(
            f"{conv_class.__name__} has no argument {one_of(lacking)}; choose a class that takes all arguments of "
            f"nn.Conv2d: {', '.join(GEOMETRY)} (conv._target_)"
        )


def _check_arguments(conv_class: type[nn.Module], own: list[str], arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name in own or name in OVERRIDES:
            continue
        if name in GEOMETRY:
            raise UserError(f"{name} is determined by the replaced layer; remove the key (conv.{name})")
        raise UserError(
            f"{conv_class.__name__} has no argument {name!r}; choose {one_of([*own, *OVERRIDES])} (conv.{name})"
        )
