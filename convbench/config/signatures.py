"""The arguments of a class or function by its dotted path, read from its source: nothing is imported.

A key that no constructor takes is then found in milliseconds, and not after the seconds that importing PyTorch takes.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path


@dataclass(frozen=True)
class Parameter:
    """A named argument.

    Attributes:
        annotation: as it stands in the source; None where there is none.
        is_required: whether it has no default value.
    """

    annotation: ast.expr | None
    is_required: bool


@dataclass(frozen=True)
class Signature:
    """What a class or function takes by name.

    Attributes:
        parameters: by name, those of a class before those of the classes to which it hands `**kwargs`.
        takes_any: whether it takes other names as well, or may do so for all that its source tells.
    """

    parameters: dict[str, Parameter]
    takes_any: bool


@cache
def signature_of(target: str) -> Signature | None:
    """The signature of what a dotted path leads to; None where no source says it."""
    module, _, name = target.rpartition(".")
    found = _definition(module, name) if module else None
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.ClassDef):
        parameters, takes_any = _of_class(module, node)
        return Signature(parameters, takes_any) if parameters or not takes_any else None
    return Signature(_named(node), node.args.kwarg is not None)


_Definition = tuple[str, ast.ClassDef | ast.FunctionDef]


def _of_class(module: str, node: ast.ClassDef) -> tuple[dict[str, Parameter], bool]:
    """Arguments by name, and whether there may be more."""
    own = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    named: dict[str, Parameter] = {}
    if own is not None:
        named = dict(list(_named(own).items())[1:])  # without self
        if own.args.kwarg is None:
            return named, False
    for base in node.bases:
        found = _definition(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and isinstance(found[1], ast.ClassDef):
            further, takes_any = _of_class(found[0], found[1])
            return named | {name: value for name, value in further.items() if name not in named}, takes_any
    return named, True


def _named(function: ast.FunctionDef) -> dict[str, Parameter]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    named = {argument.arg: Parameter(argument.annotation, index < without) for index, argument in enumerate(positional)}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        named[argument.arg] = Parameter(argument.annotation, default is None)
    return named


def _definition(module: str, name: str) -> _Definition | None:
    """The class or function that a module defines, or imports by name from another module."""
    tree = _tree(module)
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module not in (None, module):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(str(node.module), alias.name)
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    for path in _files(module):
        try:
            return ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
    return None


def _files(module: str) -> Iterator[Path]:
    """Where the source of a module may lie; the packages above it are found, but not imported."""
    top, *parts = module.split(".")
    try:
        spec = PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.origin is not None and not parts:
        yield Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        below = Path(folder).joinpath(*parts)
        yield from (below.with_suffix(".py"), below / "__init__.py")
