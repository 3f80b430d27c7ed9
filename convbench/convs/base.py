"""The base class of all convolutions: the constructor of `nn.Conv2d`, its padding, and a choice of implementations."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.constructor import constructor_parameters
from convbench.convs.functional import Geometry, Size
from convbench.errors import UserError

AUTO = "auto"  # convbench.tuning.implementations replaces it by the fastest implementation for each layer
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class UnsupportedLayerError(UserError):
    """A convolution type, or one of its implementations, does not support the geometry of a layer."""


def one_of(choices: Iterable[str]) -> str:
    """Join choices for an error message: `a, b or c`."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def library(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Call PyTorch's own convolution, `F.conv2d`."""
    return F.conv2d(x, weight, bias, *geometry)


def initialise_like_conv2d(weight: Tensor, bias: Tensor | None) -> None:
    """Initialise a weight and a bias in place, with the same random draws in the same order as `nn.Conv2d`.

    Args:
        weight: Weight, shape (C_out, C_in/groups, K_h, K_w), or flattened to (C_out, C_in/groups * K_h * K_w).
        bias: Bias, shape (C_out,), or None.
    """
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound)


class Conv2dBase(nn.Module):
    """A two-dimensional convolution with the constructor of `nn.Conv2d` and several equivalent implementations.

    A subclass adds its own keyword-only arguments and passes those of `nn.Conv2d` on:

        def __init__(self, *conv2d: Any, ratio: int = 2, implementation: str = "library", **geometry: Any) -> None:
            super().__init__(*conv2d, implementation=implementation, **geometry)
            self.weight = self._parameter(self.out_channels, self.in_channels, *self.kernel_size)

    The constructor of the subclass creates the parameters. Its `forward` passes them to `self._function`, a pure
    function whose last argument is the `Geometry` of the layer, `self._geometry`. All implementations share one layout
    of parameters, so a checkpoint can be loaded with any of them. The constructor rejects a layer that the convolution
    does not support by calling `self._refuse`.

    `FlopCounterMode` counts convolutions and matrix products only. A subclass, or any other module, that computes
    further sums of products reports them by a method `multiply_accumulates(input_shape, output_shape) -> int`, for all
    N images of the batch (see `convbench.models.counting`).

    Attributes:
        name: The name of the convolution type in messages and configuration files.
        implementations: Maps the name of each implementation to its pure function.
        limits: Maps the name of an implementation to a function that returns the reason why it cannot compute this
            layer, or None if it can. An implementation without an entry supports every layer that the class supports.
        only_on: Maps the name of an implementation to the device type for which it is written. On other devices it
            falls back to another implementation.
        outputs_scale_with: Names of parameters, or of parameter lists. Multiplying all of them by a factor multiplies
            the outputs, without the bias, by the same factor. Empty if there are no such parameters.
        reference_implementation: The name of the implementation that defines the method. `FlopCounterMode` counts its
            operations correctly, also on meta tensors.

    Raises:
        UnsupportedLayerError: The class, or the implementation, does not support the geometry of the layer.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str]
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]]
    limits: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {}
    only_on: ClassVar[Mapping[str, str]] = {}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("weight",)
    reference_implementation: ClassVar[str]

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Set a signature in which `help` and `inspect.signature` list the arguments behind `*conv2d`, `**geometry`."""
        super().__init_subclass__(**arguments)
        parameters = constructor_parameters(cls)[0].values()
        cls.__signature__ = inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))  # type: ignore[attr-defined]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str,
    ) -> None:
        super().__init__()
        self.in_channels = self._checked_int("in_channels", in_channels)
        self.out_channels = self._checked_int("out_channels", out_channels)
        self.groups = self._checked_int("groups", groups, key=" (conv.groups)")
        self.kernel_size = self._checked_pair("kernel_size", kernel_size)
        self.stride = self._checked_pair("stride", stride)
        self.dilation = self._checked_pair("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else self._checked_pair("padding", padding, least=0)
        self.padding_mode = padding_mode
        if not isinstance(bias, bool):
            raise UserError(f"{self.name} got bias {bias!r}; choose true, false or null (conv.bias)")
        if padding_mode not in PADDING_MODES:
            raise UserError(f"{self.name} got padding_mode {padding_mode!r}; choose {one_of(PADDING_MODES)}")
        self._has_bias = bias
        self._factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self._check_groups("conv.groups")
        self._resolve_padding()
        self.use(implementation)

    @property
    def implementation(self) -> str:
        """The name of the current implementation, which `use` changes."""
        return self._implementation

    def use(self, implementation: str) -> None:
        """Switch to another implementation and keep the parameters; `auto` computes as the reference implementation.

        Raises:
            UnsupportedLayerError: The implementation does not support the geometry of the layer.
            UserError: The class has no implementation of this name.
        """
        if implementation not in (*self.implementations, AUTO):
            raise UserError(
                f"{self.name} has no implementation {implementation!r}; "
                f"choose {one_of([*self.implementations, AUTO])} (conv.implementation)"
            )
        function = self.reference_implementation if implementation == AUTO else implementation
        reason = self.limits[function](self) if function in self.limits else None
        if reason is not None:
            raise UnsupportedLayerError(reason)
        self._implementation = implementation
        self._function = self.implementations[function]

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the implementation."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if getattr(self, "bias", None) is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join([*parts, f"implementation={self.implementation}"])

    def _parameter(self, *shape: int) -> nn.Parameter:
        """Create an uninitialised parameter with the device and the dtype of the layer."""
        return nn.Parameter(torch.empty(shape, **self._factory_kwargs))

    def _bias(self, *shape: int) -> nn.Parameter | None:
        """Create the uninitialised parameter `bias`, or return None if the layer has no bias."""
        return self._parameter(*shape) if self._has_bias else None

    def _refuse(self, reason: str) -> NoReturn:
        """Raise an `UnsupportedLayerError` with a reason such as `needs stride 1`, after the name of the class."""
        raise UnsupportedLayerError(f"{self.name} {reason}")

    def _check_groups(self, key: str) -> None:
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise UnsupportedLayerError(
                f"in_channels {self.in_channels} and out_channels {self.out_channels} must both be divisible by "
                f"groups {self.groups} ({key})"
            )

    def _pad(self, x: Tensor) -> Tensor:
        """Apply the padding that `F.conv2d` does not support: modes other than zeros, and asymmetric 'same' padding."""
        return x if self._explicit_padding is None else F.pad(x, self._explicit_padding, self._pad_mode)

    def _resolve_padding(self) -> None:
        """Divide the padding between `_pad` and the convolution itself, and set `_geometry`."""
        if isinstance(self.padding, str):
            before, after = self._named_padding(self.padding)
        else:
            before = after = self.padding
        self._pad_mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        self._explicit_padding: list[int] | None = None
        if before != after or (self.padding_mode != "zeros" and any(before)):
            self._explicit_padding = [before[1], after[1], before[0], after[0]]  # F.pad starts with the last axis
            before = (0, 0)
        self._geometry = Geometry(self.stride, before, self.dilation, self.groups)

    def _named_padding(self, padding: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Convert 'same' or 'valid' to the padding (before, after), each (height, width)."""
        if padding not in ("same", "valid"):
            raise UserError(f"{self.name} got padding {padding!r}; choose whole numbers, 'same' or 'valid'")
        if padding == "valid":
            return (0, 0), (0, 0)
        if self.stride != (1, 1):
            raise UserError(f"{self.name} got padding 'same' with stride {self.stride}; 'same' needs stride 1")
        total_h, total_w = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
        return (total_h // 2, total_w // 2), (total_h - total_h // 2, total_w - total_w // 2)

    def _checked_int(self, argument: str, value: int, least: int = 1, key: str = "") -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{self.name} got {argument} {value!r}; choose a whole number of at least {least}{key}")
        return value

    def _checked_pair(self, argument: str, value: Size, least: int = 1) -> tuple[int, int]:
        if isinstance(value, int):
            value = (value, value)
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise UserError(f"{self.name} got {argument} {value!r}; choose one whole number or two")
        return self._checked_int(argument, value[0], least), self._checked_int(argument, value[1], least)
