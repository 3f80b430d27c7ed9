import pytest
import torch

from convbench.diagnostics.grids import enlarged, kernel_grid, map_grid


def tile(grid: torch.Tensor, row: int, column: int, side: int = 68) -> torch.Tensor:
    """One tile of a grid with its border."""
    return grid[:, row * side : (row + 1) * side, column * side : (column + 1) * side]


def test_each_map_is_scaled_from_black_to_white() -> None:
    ramp = torch.linspace(-3, 5, 64).view(8, 8)
    grid = map_grid(torch.stack([ramp, 100 * ramp + 7, torch.full((8, 8), 4.0)]))
    assert grid.dtype == torch.uint8
    assert grid.shape == (1, 68, 3 * 68)
    inside = tile(grid, 0, 0)[0, 2:-2:8, 2:-2:8]
    assert (inside[0, 0], inside[-1, -1]) == (0, 255)
    assert inside.flatten().tolist() == sorted(inside.flatten().tolist())
    assert torch.equal(tile(grid, 0, 0), tile(grid, 0, 1))
    assert tile(grid, 0, 2)[0, 2:-2, 2:-2].unique().tolist() == [0], "a map of one value is black"


def test_a_zero_weight_is_grey_and_each_kernel_is_scaled_by_its_largest_weight() -> None:
    kernel = torch.tensor([[-2.0, 0.0], [1.0, 2.0]])
    grid = kernel_grid(torch.stack([kernel, 0.001 * kernel])[:, None])
    assert tile(grid, 0, 0)[0, 2:-2:32, 2:-2:32].tolist() == [[0, 128], [191, 255]]
    assert torch.equal(tile(grid, 0, 0), tile(grid, 0, 1))


def test_kernels_with_three_channels_are_coloured_and_others_have_one_tile_per_channel() -> None:
    kernels = torch.randn(5, 3, 2, 2)
    grid = kernel_grid(kernels)
    assert grid.shape == (3, 68, 5 * 68)
    first = kernels[0] / kernels[0].abs().max()
    torch.testing.assert_close(tile(grid, 0, 0)[:, 2:-2:32, 2:-2:32] / 255, 0.5 + 0.5 * first, rtol=0, atol=0.003)
    assert kernel_grid(torch.randn(5, 4, 2, 2)).shape == (1, 3 * 68, 8 * 68)


def test_tiles_are_arranged_in_rows_of_eight_with_white_borders() -> None:
    maps = torch.zeros(11, 8, 8)
    maps[:, 0, 0] = 1
    maps[9] *= -1  # the second tile of the second row
    grid = map_grid(maps)
    assert grid.shape == (1, 2 * 68, 8 * 68)
    for index in range(11):
        corner = tile(grid, index // 8, index % 8)[0, 2, 2]
        assert corner == (0 if index == 9 else 255), index
    assert tile(grid, 1, 3).unique().tolist() == [255], "a tile without a map is white"
    assert grid[:, :2].unique().tolist() == [255]
    assert grid[:, :, :2].unique().tolist() == [255]


def test_a_grid_has_at_most_64_tiles() -> None:
    assert kernel_grid(torch.randn(500, 3, 3, 3)).shape == (3, 8 * 67, 8 * 67)


@pytest.mark.parametrize(("size", "side"), [(32, 128), (48, 144), (28, 140), (64, 128), (100, 100), (224, 224)])
def test_pixels_are_enlarged_by_a_whole_factor(size: int, side: int) -> None:
    image = torch.arange(size * size).view(1, size, size)
    large = enlarged(image)
    assert large.shape == (1, side, side)
    factor = side // size
    assert torch.equal(large[:, ::factor, ::factor], image)
    assert torch.equal(large[:, factor - 1 :: factor, factor - 1 :: factor], image)
