"""The values that a configuration key may have: types taken from annotations, and limits that annotations lack."""

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_TYPE_NAMES = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string"}
_MAX_INT = 2**63 - 1  # the largest int64, the integer type of PyTorch and NumPy
_MAX_SHOWN = 100  # the number of characters of a value that a message shows


@dataclass(frozen=True)
class Limits:
    """Limits on a value of some type; for a list, limits on each of its items.

    Attributes:
        low, high: the bounds of a number.
        low_open, high_open: whether the bound itself is excluded.
        choices: the allowed values; empty if there is no such restriction.
        lengths: the minimum and the maximum number of items of a list.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    choices: tuple[object, ...] = ()
    lengths: tuple[int, float] = (0, math.inf)


@dataclass(frozen=True)
class Kind:
    """The set of values that a key may have.

    Attributes:
        scalars: the names of the allowed scalar types: `bool`, `int`, `float`, `str`.
        is_optional: whether null is allowed.
        items: the kind of the items of a list; None if a list is not allowed.
        limits: the limits on the values.
    """

    scalars: frozenset[str] = frozenset()
    is_optional: bool = False
    items: "Kind | None" = None
    limits: Limits = field(default_factory=Limits)

    def allows(self, value: Any) -> bool:
        """Whether a value of plain Python types belongs to this kind."""
        if value is None:
            return self.is_optional
        if isinstance(value, list):
            shortest, longest = self.limits.lengths
            return self.items is not None and shortest <= len(value) <= longest and all(map(self.items.allows, value))
        if self.limits.choices:
            # The types are compared as well, because `1 in (True, False)` is true in Python.
            return (type(value), value) in [(type(choice), choice) for choice in self.limits.choices]
        if isinstance(value, bool):
            return "bool" in self.scalars
        if isinstance(value, int | float):
            return self._allows_number(value)
        return isinstance(value, str) and value != "" and "str" in self.scalars

    def _allows_number(self, value: float) -> bool:
        if isinstance(value, int):
            is_of_type = bool({"int", "float"} & self.scalars) and abs(value) <= _MAX_INT
        else:
            is_of_type = "float" in self.scalars and math.isfinite(value)
        low, high = self.limits.low, self.limits.high
        above = low < value if self.limits.low_open else low <= value
        return is_of_type and above and (value < high if self.limits.high_open else value <= high)

    def text(self) -> str:
        """A description in words: `a whole number of at least 1, or null`."""
        parts = [f"one of {', '.join(map(shown, self.limits.choices))}"] if self.limits.choices else []
        for name in _TYPE_NAMES if not parts else ():
            if name in self.scalars and not (name == "int" and "float" in self.scalars):
                parts.append(_TYPE_NAMES[name] + (self._bounds() if name in ("int", "float") else ""))
        if self.items is not None:
            parts.append(f"a list{self._length_text()}, each item {self.items.text()}")
        parts += ["null"] if self.is_optional else []
        return ", or ".join(parts)

    def _bounds(self) -> str:
        low, high = self.limits.low, self.limits.high
        parts = []
        if low > -math.inf:
            parts.append(f"{'above' if self.limits.low_open else 'of at least'} {_number(low)}")
        if high < math.inf:
            parts.append(f"{'below' if self.limits.high_open else 'at most'} {_number(high)}")
        return f" {' and '.join(parts)}" if parts else ""

    def _length_text(self) -> str:
        shortest, longest = self.limits.lengths
        if shortest == longest:
            return f" of length {shortest}"
        if longest < math.inf:
            return f" of length {shortest} to {int(longest)}"
        return f" of length {shortest} or more" if shortest else ""


def kind_of(annotation: ast.expr | str, limits: Limits | None = None) -> Kind | None:
    """The kind that corresponds to a type annotation; None if it contains no type that a yaml file can express.

    Args:
        annotation: the annotation, such as `Sequence[float] | None`; types that a yaml file cannot express, such as
            `Tensor`, are ignored.
        limits: limits on the values.
    """
    limits = limits or Limits()
    if isinstance(annotation, str):
        annotation = ast.parse(annotation, mode="eval").body
    scalars: set[str] = set()
    items, is_optional = None, False
    for part in _alternatives(annotation):
        if isinstance(part, ast.Constant) and part.value is None:
            is_optional = True
        elif isinstance(part, ast.Name) and part.id in _TYPE_NAMES:
            scalars.add(part.id)
        elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name):
            items, limits = _item_kind(part.value.id, part.slice, limits)
    if not scalars and items is None:
        return None
    return Kind(frozenset(scalars), is_optional, items, limits)


def _item_kind(name: str, inside: ast.expr, limits: Limits) -> tuple[Kind | None, Limits]:
    """The kind of the items of a list, and the limits of the list; a tuple of n types is a list of length n.

    Args:
        name: the name of the generic type, such as `Sequence`.
        inside: its type arguments.
        limits: limits on the values and on the length.
    """
    item_limits = Limits(limits.low, limits.high, limits.low_open, limits.high_open, limits.choices)
    if name in ("tuple", "Tuple") and isinstance(inside, ast.Tuple):
        size = len(inside.elts)
        return kind_of(inside.elts[0], item_limits), Limits(lengths=(size, size))
    if name in ("Sequence", "list", "List"):
        return kind_of(inside, item_limits), limits if not limits.choices else Limits(lengths=limits.lengths)
    return None, limits


def _alternatives(annotation: ast.expr) -> Sequence[ast.expr]:
    """The parts of a union such as `int | str | None`."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_alternatives(annotation.left), *_alternatives(annotation.right)]
    return [annotation]


def refusal(key: str, value: object, kind: Kind) -> str:
    """The error message for a value that is not allowed: the value, what is allowed, and the key."""
    is_large = isinstance(value, int) and abs(value) > _MAX_INT and kind.limits.high == math.inf
    upper_bound = f" and at most {_MAX_INT}" if is_large else ""
    return f"{key}={shown(value)} is not allowed: give {kind.text()}{upper_bound} ({key})"


def typed(value: object) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(typed, value))}]" if isinstance(value, list) else str(value)


def shown(value: object) -> str:
    """A value as it is typed on the command line, but on one line and shortened if it is long."""
    if isinstance(value, list):
        text = f"[{','.join(map(shown, value))}]"
    elif isinstance(value, int) and abs(value) > _MAX_INT:
        text = f"{float(value):g}" if abs(value) < 1e300 else "a number of hundreds of digits"
    else:
        text = repr(value) if isinstance(value, str) and not (value and value.isprintable()) else typed(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**63 else f"{value:g}"
