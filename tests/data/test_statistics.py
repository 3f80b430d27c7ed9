import numpy as np
import pytest
import torch

from convbench.data.statistics import channel_statistics, check_statistics
from convbench.errors import UserError


def test_statistics_are_those_of_all_pixels_in_float64() -> None:
    images = torch.randint(0, 256, (50, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([3, 4, 40, 41, 49])
    mean, std = channel_statistics(images, rows)
    chosen = images[rows].double() / 255
    np.testing.assert_allclose(mean, chosen.mean(dim=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, chosen.std(dim=(0, 2, 3), correction=0), rtol=1e-12)


def test_statistics_do_not_depend_on_the_size_of_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (50, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = channel_statistics(images, torch.arange(50))
    monkeypatch.setattr("convbench.data.statistics._CHUNK_BYTES", 700)
    assert channel_statistics(images, torch.arange(50)) == whole


def test_images_of_one_colour_have_no_deviation() -> None:
    mean, std = channel_statistics(torch.full((2, 1, 4, 4), 51, dtype=torch.uint8), torch.arange(2))
    np.testing.assert_allclose(mean, [0.2])
    np.testing.assert_allclose(std, [0.0], atol=1e-7)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5] * 3, [0.2] * 3, "data.mean has 3 and data.std 3 numbers for images of 1 channel"),
        ([0.5], None, "data.mean and data.std go together"),
        ([0.5], [0.0], "has to be above 0 in every channel"),
    ],
)
def test_a_mean_and_std_that_do_not_fit_are_refused(mean: list[float], std: list[float] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_statistics(mean, std, channels=1)
