"""The coordinate convolution: a convolution that also sees where it is."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convbench.convs.base import Conv2dBase, initialise_like_conv2d
from convbench.convs.functional import Geometry

# Every implementation takes x (N, C_in, H, W), coordinates (1, C, H, W), both padded alike, weight
# (C_out, C_in + C, K_h, K_w), bias (C_out,) or none, and gives (N, C_out, H_out, W_out); groups are 1.


def concatenated(x: Tensor, coordinates: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Put the coordinates behind the channels of every image, and convolve: the published form."""
    seen = torch.cat([x, coordinates.expand(x.shape[0], -1, -1, -1)], 1)
    return F.conv2d(seen, weight, bias, *geometry)


def separate(x: Tensor, coordinates: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve the coordinates once for all images and add: nothing is copied, and no channel number becomes odd."""
    of_images, of_places = weight.split([x.shape[1], coordinates.shape[1]], 1)
    places = F.conv2d(coordinates, of_places, bias, *geometry)
    return F.conv2d(x, of_images, None, *geometry) + places


class CoordConv2d(Conv2dBase):
    """A standard convolution over the image and the coordinates of its pixels.

        y[n, o] = bias[o] + sum_i weight[o, i] * [x[n], row, column]_i

    where row and column run from -1 to 1 over the image (and are 0, the centre, where it has one row or column), and
    with `radius` a third map holds the distance from the centre, sqrt(row^2 + column^2). So an output may depend on the
    place, which a convolution alone cannot; with zeros in the weights of the coordinates it is the standard
    convolution. It costs C_out * K_h * K_w weights a coordinate. The coordinates are those of the layer's input, and
    are padded as it is. Grouped layers are refused: a group of their own is not what the coordinates are for.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (C_out, C_in + 2 or 3, K_h, K_w) and `bias` (C_out,), drawn as an `nn.Conv2d` of this shape would draw them.

    Source: Liu et al., "An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution", NeurIPS
    2018, arXiv 1807.03247.

    Raises:
        UnsupportedLayerError: The layer is grouped.
        UserError: An argument is out of range, or does not go together with another one.
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
        """Draw the values that `nn.Conv2d` would draw."""
        initialise_like_conv2d(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        coordinates = self._pad(self._coordinates(x))
        return self._function(self._pad(x), coordinates, self.weight, self.bias, self._geometry)

    def _coordinates(self, x: Tensor) -> Tensor:
        """Give rows, columns and, with `radius`, distances of the pixels of (N, C, H, W): (1, 2 or 3, H, W)."""
        # In float32, which half precision would make coarse steps of, then as the images are.
        exact = torch.promote_types(x.dtype, torch.float32)
        # linspace gives its first end where it has one step, which would be a corner.
        rows, columns = (
            torch.linspace(-1, 1, extent, device=x.device, dtype=exact) if extent > 1 else x.new_zeros(1, dtype=exact)
            for extent in x.shape[2:]
        )
        maps = list(torch.broadcast_tensors(rows[:, None], columns[None, :]))
        if self.radius:
            maps.append((maps[0] ** 2 + maps[1] ** 2).sqrt())
        return torch.stack(maps)[None].to(x.dtype)
