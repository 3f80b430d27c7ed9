"""What a key of a configuration may hold: its type as an annotation says it, and limits that no annotation can say."""

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_NAMES = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
_LARGEST = 2**63 - 1  # of whole numbers, as PyTorch and NumPy hold them
_SHOWN = 100  # characters of a value in a message


@dataclass(frozen=True)
class Limits:
    """What is allowed of the values of a type; of a list, for each of its items.

    Attributes:
        low, high: the ends of the range of a number.
        low_open, high_open: whether the end itself is left out.
        choices: the values that are allowed; empty for any.
        lengths: how many items a list may have, at least and at most.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    choices: tuple[object, ...] = ()
    lengths: tuple[int, float] = (0, math.inf)


@dataclass(frozen=True)
class Kind:
    """The values that a key may have.

    Attributes:
        scalars: names of types, of `bool`, `int`, `float`, `str`.
        is_optional: whether it may be null.
        items: what the items of a list may be; None where no list is allowed.
        limits: of its values.
    """

    scalars: frozenset[str] = frozenset()
    is_optional: bool = False
    items: "Kind | None" = None
    limits: Limits = field(default_factory=Limits)

    def allows(self, value: Any) -> bool:
        """Whether a value, of plain Python types, is one of these."""
        if value is None:
            return self.is_optional
        if isinstance(value, list):
            least, most = self.limits.lengths
            return self.items is not None and least <= len(value) <= most and all(map(self.items.allows, value))
        if self.limits.choices:
            # `1 in (True, False)` holds in Python
            return (type(value), value) in [(type(choice), choice) for choice in self.limits.choices]
        if isinstance(value, bool):
            return "bool" in self.scalars
        if isinstance(value, int | float):
            return self._has_number(value)
        return isinstance(value, str) and value != "" and "str" in self.scalars

    def _has_number(self, value: float) -> bool:
        if isinstance(value, int):
            is_of_type = bool({"int", "float"} & self.scalars) and abs(value) <= _LARGEST
        else:
            is_of_type = "float" in self.scalars and math.isfinite(value)
        low, high = self.limits.low, self.limits.high
        above = low < value if self.limits.low_open else low <= value
        return is_of_type and above and (value < high if self.limits.high_open else value <= high)

    def text(self) -> str:
        """Say it in words: `a whole number of at least 1, or null`."""
        parts = [f"one of {', '.join(map(shown, self.limits.choices))}"] if self.limits.choices else []
        for name in _NAMES if not parts else ():
            if name in self.scalars and not (name == "int" and "float" in self.scalars):
                parts.append(_NAMES[name] + (self._bounds(name) if name in ("int", "float") else ""))
        if self.items is not None:
            parts.append(f"a list of {self._count()}values, each {self.items.text()}")
        parts += ["null"] if self.is_optional else []
        return ", or ".join(parts)

    def _bounds(self, name: str) -> str:
        low, high = self.limits.low, self.limits.high
        parts = []
        if low > -math.inf:
            parts.append(f"{'above' if self.limits.low_open else 'of at least'} {_number(low)}")
        if high < math.inf:
            parts.append(f"{'below' if self.limits.high_open else 'at most'} {_number(high)}")
        return f" {' and '.join(parts)}" if parts else ""

    def _count(self) -> str:
        least, most = self.limits.lengths
        if least == most:
            return f"{least} "
        if most < math.inf:
            return f"{least} to {int(most)} "
        return f"at least {least} " if least else ""


def kind_of(annotation: ast.expr | str, limits: Limits | None = None) -> Kind | None:
    """The kind that an annotation stands for; None where it names no type that a yaml can hold.

    Args:
        annotation: such as `Sequence[float] | None`; parts that no yaml can hold, such as `Tensor`, are passed over.
        limits: of the values.
    """
    limits = limits or Limits()
    if isinstance(annotation, str):
        annotation = ast.parse(annotation, mode="eval").body
    scalars: set[str] = set()
    items, is_optional = None, False
    for part in _alternatives(annotation):
        if isinstance(part, ast.Constant) and part.value is None:
            is_optional = True
        elif isinstance(part, ast.Name) and part.id in _NAMES:
            scalars.add(part.id)
        elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name):
            items, limits = _items(part.value.id, part.slice, limits)
    if not scalars and items is None:
        return None
    return Kind(frozenset(scalars), is_optional, items, limits)


def _items(name: str, inside: ast.expr, limits: Limits) -> tuple[Kind | None, Limits]:
    """The kind of a list's items, and the limits of the list: a tuple of so many items is a list of that length."""
    of_items = Limits(limits.low, limits.high, limits.low_open, limits.high_open, limits.choices)
    if name in ("tuple", "Tuple") and isinstance(inside, ast.Tuple):
        size = len(inside.elts)
        return kind_of(inside.elts[0], of_items), Limits(lengths=(size, size))
    if name in ("Sequence", "list", "List"):
        return kind_of(inside, of_items), limits if not limits.choices else Limits(lengths=limits.lengths)
    return None, limits


def _alternatives(annotation: ast.expr) -> Sequence[ast.expr]:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_alternatives(annotation.left), *_alternatives(annotation.right)]
    return [annotation]


def refusal(key: str, value: object, kind: Kind) -> str:
    """The sentence that refuses a value: what was given, what is allowed, the key."""
    is_large = isinstance(value, int) and abs(value) > _LARGEST and kind.limits.high == math.inf
    beyond = f" and at most {_LARGEST}" if is_large else ""
    return f"{key}={shown(value)} is out of range: give {kind.text()}{beyond} ({key})"


def shown(value: object) -> str:
    """A value as one would type it, shortened where it is long, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        text = f"[{','.join(map(shown, value))}]"
    elif isinstance(value, int) and abs(value) > _LARGEST:
        text = f"{float(value):g}" if abs(value) < 1e300 else "a number of hundreds of digits"
    else:
        text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**63 else f"{value:g}"
