import math
from typing import Any

import numpy as np
import pytest
import torch

from convbench.data.normalisation import channel_statistics, check_statistics, given_or_computed
from convbench.errors import UserError


def test_statistics_are_equal_to_those_of_all_pixels_in_float64() -> None:
    images = torch.randint(0, 256, (50, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([3, 4, 40, 41, 49])
    mean, std = channel_statistics(images, rows)
    chosen = images[rows].double() / 255
    np.testing.assert_allclose(mean, chosen.mean(dim=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, chosen.std(dim=(0, 2, 3), correction=0), rtol=1e-12)


def test_statistics_do_not_depend_on_the_size_of_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (50, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = channel_statistics(images, torch.arange(50))
    monkeypatch.setattr("convbench.data.normalisation._CHUNK_BYTES", 700)
    assert channel_statistics(images, torch.arange(50)) == whole


def test_images_of_one_colour_have_a_standard_deviation_of_zero() -> None:
    mean, std = channel_statistics(torch.full((2, 1, 4, 4), 51, dtype=torch.uint8), torch.arange(2))
    np.testing.assert_allclose(mean, [0.2])
    assert std == (0.0,)


@pytest.mark.parametrize(
    ("mean", "std", "pattern"),
    [
        ([0.5] * 3, [0.2] * 2, r"mean .*3.* std .*2.* 1 channel.*\(data\.mean, data\.std\)$"),
        ([0.5], None, r"\(data\.mean, data\.std\)$"),
        (None, [0.5], r"\(data\.mean, data\.std\)$"),
    ],
)
def test_a_missing_mean_or_std_and_a_wrong_number_of_channels_are_refused(
    mean: list[float] | None, std: list[float] | None, pattern: str
) -> None:
    with pytest.raises(UserError, match=pattern):
        check_statistics(mean, std, channels=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 1.01, 123.7, "0.5", None, True, [0.5]])
@pytest.mark.parametrize("key", ["mean", "std"])
def test_the_error_for_a_value_that_is_not_a_number_from_0_to_1_gives_its_key_and_channel(
    key: str, value: object
) -> None:
    given: dict[str, list[Any]] = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    given[key][1] = value
    with pytest.raises(UserError, match=rf"data\.{key}=.*channel 1"):
        check_statistics(**given, channels=3)


@pytest.mark.parametrize("value", [0.0, 1e-40])
def test_a_standard_deviation_of_almost_zero_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"data\.std=.*channel 0"):
        check_statistics([0.5], [value], channels=1)


@pytest.mark.parametrize("key", ["mean", "std"])
def test_a_number_instead_of_a_list_is_refused(key: str) -> None:
    given: dict[str, Any] = {"mean": [0.5], "std": [0.5]} | {key: 0.5}
    with pytest.raises(UserError, match=rf"data\.{key}"):
        check_statistics(**given, channels=1)


def test_zero_and_one_are_valid_values() -> None:
    check_statistics([0, 1, 0.5], [1, 1, 0.2], channels=3)


def test_a_constant_channel_gets_a_std_of_1_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 51
    images[7, 1] = 9  # not a training image
    rows = torch.arange(5)
    mean, std = given_or_computed(None, None, images, rows)
    assert std[1] == 1
    assert std[0] != 1
    assert mean[1] == pytest.approx(0.2)
    (line,) = caplog.messages
    assert "channel 1 of 3" in line


def test_black_images_get_a_std_of_1_in_all_channels(caplog: pytest.LogCaptureFixture) -> None:
    mean, std = given_or_computed(None, None, torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.arange(4))
    assert mean == (0, 0, 0)
    assert std == (1, 1, 1)
    assert "channel 0 and 1 and 2 of 3" in caplog.text
