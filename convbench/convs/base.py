"""What every convolution of convbench shares: nn.Conv2d's constructor, its padding, a choice of implementations."""

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

AUTO = "auto"  # in place of an implementation: to be chosen where the conv stands, by convbench.tuning.implementations
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class UnsupportedLayerError(UserError):
    """A convolution, or one of its implementations, cannot take the place of a layer of this geometry."""


def one_of(choices: Iterable[str]) -> str:
    """Join choices for a message: `a, b or c`."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def library(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """PyTorch's own convolution, as an implementation."""
    return F.conv2d(x, weight, bias, *geometry)


def initialise_like_conv2d(weight: Tensor, bias: Tensor | None) -> None:
    """Fill with the draws, in the order, that `nn.Conv2d` of this weight's shape makes.

    Args:
        weight: (C_out, C_in/groups, K_h, K_w), or flattened to (C_out, C_in/groups * K_h * K_w).
        bias: (C_out,) or none.
    """
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound)


class Conv2dBase(nn.Module):
    """A two-dimensional convolution with `nn.Conv2d`'s constructor and several equal implementations.

    A subclass adds keyword-only arguments of its own and hands `nn.Conv2d`'s on:

        def __init__(self, *conv2d: Any, ratio: int = 2, implementation: str = "library", **geometry: Any) -> None:
            super().__init__(*conv2d, implementation=implementation, **geometry)
            self.weight = self._parameter(self.out_channels, self.in_channels, *self.kernel_size)

    What `FlopCounterMode` cannot see of it, products that are added up elsewhere than in convolutions and matrix
    products, it reports by a method `multiply_accumulates(input_shape, output_shape) -> int`, for all N images; so may
    any other module (`convbench.models.counting`).

    It owns one layout of parameters, makes them in its constructor, and in `forward` hands them to `self._function`, a
    pure function that takes the `Geometry` of the layer, `self._geometry`, last. The layout belongs to the conv
    and not to the implementation, so checkpoints move between implementations. A layer that it cannot take, it refuses
    in its constructor by `self._refuse`.

    Attributes:
        name: What messages and configs call the conv.
        implementations: Name -> pure function.
        limits: Name of an implementation -> function that says why it cannot compute this conv, or None if it can;
            an implementation without an entry takes every layer that the conv takes.
        only_on: Name of an implementation -> the type of device that it is written for, if it computes as another one
            elsewhere.
        outputs_scale_with: Names of parameters (or of lists of them) that have the outputs, but for the bias, as large
            when they are multiplied by a number; empty if there are none.
        reference_implementation: The implementation that defines the method and its multiplications, and whose
            operations `FlopCounterMode` counts correctly, also on meta tensors.

    Raises:
        UnsupportedLayerError: The conv, or the implementation, cannot take a layer of this geometry.
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str]
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]]
    limits: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {}
    only_on: ClassVar[Mapping[str, str]] = {}
    outputs_scale_with: ClassVar[tuple[str, ...]] = ("weight",)
    reference_implementation: ClassVar[str]

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Let `help` and `inspect.signature` show by name what `*conv2d` and `**geometry` stand for."""
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
        self.in_channels = self._whole("in_channels", in_channels)
        self.out_channels = self._whole("out_channels", out_channels)
        self.groups = self._whole("groups", groups, key=" (conv.groups)")
        self.kernel_size = self._two("kernel_size", kernel_size)
        self.stride = self._two("stride", stride)
        self.dilation = self._two("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else self._two("padding", padding, least=0)
        self.padding_mode = padding_mode
        if not isinstance(bias, bool):
            raise UserError(f"{self.name} got bias {bias!r}; choose true, false or null (conv.bias)")
        if padding_mode not in PADDING_MODES:
            raise UserError(f"{self.name} got padding_mode {padding_mode!r}; choose {one_of(PADDING_MODES)}")
        self._biased = bias
        self._place: dict[str, Any] = {"device": device, "dtype": dtype}  # of what the constructor makes
        self._check_groups("conv.groups")
        self._resolve_padding()
        self.use(implementation)

    @property
    def implementation(self) -> str:
        """The name of the implementation in use; `use` changes it."""
        return self._implementation

    def use(self, implementation: str) -> None:
        """Switch to another implementation; parameters stay as they are. `auto` computes as the defining one.

        Raises:
            UnsupportedLayerError: The implementation cannot take a layer of this geometry.
            UserError: The conv has no such implementation.
        """
        if implementation not in (*self.implementations, AUTO):
            raise UserError(
                f"{self.name} has no implementation {implementation!r}; "
                f"choose {one_of([*self.implementations, AUTO])} (conv.implementation)"
            )
        function = self.reference_implementation if implementation == AUTO else implementation
        why_not = self.limits[function](self) if function in self.limits else None
        if why_not is not None:
            raise UnsupportedLayerError(why_not)
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
        """Make an uninitialised parameter where the layer is to be."""
        return nn.Parameter(torch.empty(shape, **self._place))

    def _bias(self, *shape: int) -> nn.Parameter | None:
        """Make the uninitialised parameter `bias`, or None where the layer is to have none."""
        return self._parameter(*shape) if self._biased else None

    def _refuse(self, reason: str) -> NoReturn:
        """Say that the conv cannot take this layer, and why: `needs stride 1`."""
        raise UnsupportedLayerError(f"{self.name} {reason}")

    def _check_groups(self, key: str) -> None:
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise UnsupportedLayerError(
                f"in_channels {self.in_channels} and out_channels {self.out_channels} must both be divisible by "
                f"groups {self.groups} ({key})"
            )

    def _pad(self, x: Tensor) -> Tensor:
        """Pad what the convolution itself cannot: other modes than zeros, and uneven 'same' padding."""
        return x if self._pad_first is None else F.pad(x, self._pad_first, self._pad_mode)

    def _resolve_padding(self) -> None:
        """Split the padding into what `_pad` does first and what the convolution does by itself."""
        if isinstance(self.padding, str):
            before, after = self._named_padding(self.padding)
        else:
            before = after = self.padding
        self._pad_mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        self._pad_first: list[int] | None = None
        if before != after or (self.padding_mode != "zeros" and any(before)):
            self._pad_first = [before[1], after[1], before[0], after[0]]  # F.pad starts with the last axis
            before = (0, 0)
        self._geometry = Geometry(self.stride, before, self.dilation, self.groups)

    def _named_padding(self, padding: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Turn 'same' or 'valid' into padding (before, after), each (height, width)."""
        if padding not in ("same", "valid"):
            raise UserError(f"{self.name} got padding {padding!r}; choose whole numbers, 'same' or 'valid'")
        if padding == "valid":
            return (0, 0), (0, 0)
        if self.stride != (1, 1):
            raise UserError(f"{self.name} got padding 'same' with stride {self.stride}; 'same' needs stride 1")
        high, wide = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
        return (high // 2, wide // 2), (high - high // 2, wide - wide // 2)

    def _whole(self, argument: str, value: int, least: int = 1, key: str = "") -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{self.name} got {argument} {value!r}; choose a whole number of at least {least}{key}")
        return value

    def _two(self, argument: str, value: Size, least: int = 1) -> tuple[int, int]:
        if isinstance(value, int):
            value = (value, value)
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise UserError(f"{self.name} got {argument} {value!r}; choose one whole number or two")
        return self._whole(argument, value[0], least), self._whole(argument, value[1], least)
