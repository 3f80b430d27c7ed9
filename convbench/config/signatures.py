"""The arguments of a class or function, given by its dotted path, read from its source without importing it.

A key that no constructor takes is thus found in milliseconds instead of after the seconds that importing PyTorch takes.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function that can be given by name.

    Attributes:
        annotation: the type annotation as a syntax tree; None without an annotation.
        is_required: whether the parameter has no default value.
    """

    annotation: ast.expr | None
    is_required: bool


@dataclass(frozen=True)
class Signature:
    """The named parameters of a class or function.

    Attributes:
        parameters: the parameters by name; those of a class come before those of the base class that receives its
            `**kwargs`.
        takes_any: whether other names are accepted, too, or whether the source leaves this open.
    """

    parameters: dict[str, Parameter]
    takes_any: bool


@cache
def signature_of(target: str) -> Signature | None:
    """The signature of the class or function at a dotted path; None if its source does not define it."""
    module, _, name = target.rpartition(".")
    found = _definition(module, name) if module else None
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.ClassDef):
        parameters, takes_any = _class_parameters(module, node)
        return Signature(parameters, takes_any) if parameters or not takes_any else None
    return Signature(_named(node), node.args.kwarg is not None)


_Definition = tuple[str, ast.ClassDef | ast.FunctionDef]


def _class_parameters(module: str, node: ast.ClassDef) -> tuple[dict[str, Parameter], bool]:
    """The parameters of a constructor by name, and whether it may accept further names."""
    init = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    named: dict[str, Parameter] = {}
    if init is not None:
        named = dict(list(_named(init).items())[1:])  # without self
        if init.args.kwarg is None:
            return named, False
    for base in node.bases:
        found = _definition(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and isinstance(found[1], ast.ClassDef):
            inherited, takes_any = _class_parameters(found[0], found[1])
            return named | {name: value for name, value in inherited.items() if name not in named}, takes_any
    return named, True


def _named(function: ast.FunctionDef) -> dict[str, Parameter]:
    """The parameters of a function by name."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    named = {
        argument.arg: Parameter(argument.annotation, index < required) for index, argument in enumerate(positional)
    }
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        named[argument.arg] = Parameter(argument.annotation, default is None)
    return named


def _definition(module: str, name: str) -> _Definition | None:
    """The class or function that a module defines or imports by name, and the module that defines it."""
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
    """The syntax tree of a module; None if its source cannot be read."""
    for path in _files(module):
        try:
            return ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
    return None


def _files(module: str) -> Iterator[Path]:
    """The files that may contain the source of a module; its parent packages are located without importing them."""
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
        path = Path(folder).joinpath(*parts)
        yield from (path.with_suffix(".py"), path / "__init__.py")
