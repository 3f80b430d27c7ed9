"""Convolution types, one in each file, and the swap that puts them into a network.

Every class can be imported from this package by its name, for example `from convbench.convs import DynamicConv2d`. The
package finds and imports the module on first access, so that a new file needs no entry here.
"""

import importlib
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_CLASS_DEFINITION = re.compile(r"^class (\w+Conv\w*2d|\w+2d)\(", re.MULTILINE)


def __getattr__(name: str) -> Any:
    module = _modules_by_class().get(name)
    if module is None:
        raise AttributeError(f"module 'convbench.convs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"convbench.convs.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules_by_class()})


def _modules_by_class() -> dict[str, str]:
    """Map the name of each convolution class to the name of its module, without importing the modules."""
    paths = (path for path in _FOLDER.glob("*.py") if path.stem != "__init__")
    return {name: path.stem for path in paths for name in _CLASS_DEFINITION.findall(path.read_text(encoding="utf-8"))}
