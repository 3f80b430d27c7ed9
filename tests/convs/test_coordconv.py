"""CoordConv: the coordinates of the pixels."""

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.coordconv import CoordConv2d


def test_with_zero_weights_of_the_coordinates_it_is_the_standard_convolution() -> None:
    conv = CoordConv2d(4, 6, 3, padding=1)
    conv.weight.data[:, 4:] = 0
    x = torch.randn(2, 4, 5, 7)
    wanted = torch.nn.functional.conv2d(x, conv.weight[:, :4], conv.bias, padding=1)
    for implementation in conv.implementations:
        conv.use(implementation)
        torch.testing.assert_close(conv(x), wanted)


@pytest.mark.parametrize("implementation", CoordConv2d.implementations)
def test_an_output_can_be_the_row_the_column_or_the_distance_from_the_centre(implementation: str) -> None:
    conv = CoordConv2d(1, 3, 1, bias=False, radius=True, implementation=implementation)
    conv.weight.data.copy_(torch.eye(4)[1:].view(3, 4, 1, 1))
    rows, columns, radius = conv(torch.randn(1, 1, 3, 5))[0]
    torch.testing.assert_close(rows, torch.tensor([[-1.0], [0], [1]]).expand(3, 5))
    torch.testing.assert_close(columns, torch.tensor([-1, -0.5, 0, 0.5, 1]).expand(3, 5))
    torch.testing.assert_close(radius, (rows**2 + columns**2).sqrt())


@pytest.mark.parametrize("implementation", CoordConv2d.implementations)
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1)])
def test_the_coordinate_of_a_single_row_or_column_is_0(implementation: str, size: tuple[int, int]) -> None:
    conv = CoordConv2d(1, 3, 1, bias=False, radius=True, implementation=implementation)
    conv.weight.data.copy_(torch.eye(4)[1:].view(3, 4, 1, 1))
    rows, columns, radius = conv(torch.randn(1, 1, *size))[0]
    ends = {1: torch.tensor([0.0]), 3: torch.tensor([-1.0, 0, 1])}
    torch.testing.assert_close(rows, ends[size[0]][:, None].expand(size))
    torch.testing.assert_close(columns, ends[size[1]].expand(size))
    torch.testing.assert_close(radius, (rows**2 + columns**2).sqrt())


def test_grouped_layers_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"coordconv .*grouped"):
        CoordConv2d(8, 8, 3, groups=2)
