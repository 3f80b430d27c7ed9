"""convbench: swap the convolution, keep everything else equal, and measure.

The functions for programs of one's own; `docs/python.md` shows them at work:

- `swap_convs(network, conv)` replaces the convolutions of any `nn.Module`.
- `set_temperature(network, value)` and `auxiliary_loss(network)` are what a training loop does for some convolutions.
- `load_run(folder)` reads a run; its `network()` and `transform` classify images of one's own.
- `compare(folders)` gives the table of a comparison as plain dictionaries.
- `convs.NAME` is the class of a convolution, such as `convs.DynamicConv2d`.

Importing the package loads neither PyTorch nor any of these; each is loaded when it is first used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convbench import convs as convs
    from convbench.api import auxiliary_loss, compare, load_run, set_temperature, swap_convs

__version__ = "0.1.0"
__all__ = ["auxiliary_loss", "compare", "convs", "load_run", "set_temperature", "swap_convs"]

_FUNCTIONS = frozenset(__all__) - {"convs"}


class _Package(ModuleType):
    """This package, in which the name of a function stays the function.

    The commands are modules of this package. Importing one, such as `convbench.compare`, would bind its name in the
    package, in place of the function of the same name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _FUNCTIONS:
            return getattr(importlib.import_module("convbench.api"), name)
        if name == "convs":
            return importlib.import_module("convbench.convs")
        raise AttributeError(f"module 'convbench' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
