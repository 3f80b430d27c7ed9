"""The arguments of a constructor, including those that it passes to base classes by `**kwargs`."""

import inspect
from typing import Any

_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def constructor_parameters(kind: type[Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Collect the named arguments of a class and of the base classes to which it passes `**kwargs`.

    Returns:
        The arguments by name, those of the class itself first; and whether the last constructor in this chain accepts
        arbitrary further keyword arguments.
    """
    named: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        _, *parameters = inspect.signature(vars(base)["__init__"]).parameters.values()  # without self
        for parameter in parameters:
            if parameter.kind not in _STARRED:
                named.setdefault(parameter.name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in [parameter.kind for parameter in parameters]:
            return named, False
    return named, True
