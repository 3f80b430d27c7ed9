"""The standard convolution with the parameters of `nn.Conv2d`, computed by PyTorch or by Winograd's algorithm."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d, library
from convbench.convs.winograd import why_not, winograd


class StandardConv2d(Conv2dBase):
    """The standard convolution, which is the baseline of all comparisons.

        y[n, o] = bias[o] + sum_i weight[o, i] * x[n, i]

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters have the names and shapes of those of
    `nn.Conv2d`, so that either class loads the `state_dict` of the other: `weight` (C_out, C_in/groups, K_h, K_w) and
    `bias` (C_out,).

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "standard"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {"library": library, "winograd": winograd}
    limits: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {"winograd": why_not}
    reference_implementation: ClassVar[str] = "library"

    def __init__(self, *conv2d: Any, implementation: str = "library", **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.weight = self._parameter(self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters as `nn.Conv2d` does."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        return self._function(self._pad(x), self.weight, self.bias, self._geometry)
