"""Convolutions, one type in a file, and the swap that puts them into a network.

Every class can be imported from here by its name, such as `from convbench.convs import DynamicConv2d`; its module is
found and loaded at that moment, so that a new file needs no entry here.
"""

import importlib
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_CLASS = re.compile(r"^class (\w+Conv\w*2d|\w+2d)\(", re.MULTILINE)


def __getattr__(name: str) -> Any:
    module = _classes().get(name)
    if module is None:
        raise AttributeError(f"module 'convbench.convs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"convbench.convs.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_classes()})


def _classes() -> dict[str, str]:
    """Name of each class of a convolution -> its module."""
    modules = (path for path in _FOLDER.glob("*.py") if path.stem != "__init__")
    return {name: path.stem for path in modules for name in _CLASS.findall(path.read_text(encoding="utf-8"))}
