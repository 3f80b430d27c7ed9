"""The arguments of a constructor, through all classes that hand `**kwargs` on to the next."""

import inspect
from typing import Any

_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def constructor_parameters(kind: type[Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Collect the named arguments of a class.

    Returns:
        The arguments by name, those of the class itself first, and whether the last class asked takes any others.
    """
    named: dict[str, inspect.Parameter] = {}
    for part in kind.__mro__:
        if "__init__" not in vars(part):
            continue
        _, *parameters = inspect.signature(vars(part)["__init__"]).parameters.values()  # without self
        for parameter in parameters:
            if parameter.kind not in _STARRED:
                named.setdefault(parameter.name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in [parameter.kind for parameter in parameters]:
            return named, False
    return named, True
