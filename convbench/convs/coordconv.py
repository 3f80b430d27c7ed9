"""The coordinate convolution: a convolution with the pixel coordinates as additional input channels."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# All implementations take x (N, C_in, H, W), coordinates (1, C, H, W) with the same padding as x, weight
# (C_out, C_in + C, K_h, K_w), bias (C_out,) or None, and a geometry with one group. They return
# (N, C_out, H_out, W_out).


def concatenated(x: Tensor, coordinates: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Append the coordinates to the channels of every image and convolve: the published form."""
    channels = torch.cat([x, coordinates.expand(x.shape[0], -1, -1, -1)], 1)
    return F.conv2d(channels, weight, bias, *geometry)


def separate(x: Tensor, coordinates: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve the coordinates once for the whole batch, and add the result to the convolution of the images.

    This avoids a copy of the images, and keeps their number of channels, which the coordinates could make odd.
    """
    image_weight, coordinate_weight = weight.split([x.shape[1], coordinates.shape[1]], 1)
    coordinate_term = F.conv2d(coordinates, coordinate_weight, bias, *geometry)
    return F.conv2d(x, image_weight, None, *geometry) + coordinate_term


class CoordConv2d(Conv2dBase):
    """A standard convolution over the channels of the image and the coordinates of its pixels.

        y[n, o] = bias[o] + sum_i weight[o, i] * [x[n], row, column]_i

    Row and column run from -1 to 1 over the image. If the image has only one row or column, the coordinate is 0, the
    centre. With `radius`, a third map holds the distance from the centre, sqrt(row^2 + column^2). An output can
    therefore depend on the position, unlike that of a standard convolution. If the weights of the coordinates are zero,
    the layer is the standard convolution. It has C_out * K_h * K_w additional weights for each coordinate. The
    coordinates refer to the input of the layer and are padded as the input. Grouped layers are refused, because the
    coordinates would form a group of their own.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (C_out, C_in + 2 or 3, K_h, K_w) and `bias` (C_out,). They are initialised as an `nn.Conv2d` of this shape.

    Source: Liu et al., "An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution", NeurIPS
    2018, arXiv 1807.03247.

    Raises:
        UnsupportedLayerError: The layer is grouped.
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "coordconv"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "concatenated": concatenated,
        "separate": separate,
    }
    reference_implementation: ClassVar[str] = "concatenated"

    def __init__(
        self, *conv2d: Any, implementation: str = "concatenated", radius: bool = False, **geometry: Any
    ) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        if self.groups != 1:
            self._refuse("takes no grouped layers")
        self.radius = radius
        channels = self.in_channels + (3 if radius else 2)
        self.weight = self._parameter(self.out_channels, channels, *self.kernel_size)
        self.bias = self._bias(self.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters as `nn.Conv2d` does."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        coordinates = self._pad(self._coordinates(x))
        return self._function(self._pad(x), coordinates, self.weight, self.bias, self._geometry)

    def _coordinates(self, x: Tensor) -> Tensor:
        """Return the row, the column and, with `radius`, the distance of each pixel of x: (1, 2 or 3, H, W)."""
        # Half precision would round the steps between pixels: compute in float32 at least, and convert at the end.
        dtype = torch.promote_types(x.dtype, torch.float32)
        # With a single step, linspace returns its start, -1, and not the centre.
        rows, columns = (
            torch.linspace(-1, 1, extent, device=x.device, dtype=dtype) if extent > 1 else x.new_zeros(1, dtype=dtype)
            for extent in x.shape[2:]
        )
        maps = list(torch.broadcast_tensors(rows[:, None], columns[None, :]))
        if self.radius:
            maps.append((maps[0] ** 2 + maps[1] ** 2).sqrt())
        return torch.stack(maps)[None].to(x.dtype)
