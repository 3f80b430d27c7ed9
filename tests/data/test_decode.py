import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convbench.data.decode import decode_files
from convbench.errors import UserError
from tests.data.image_folder import write_image


def decode(path: Path, image_size: int = 8, channels: int = 3) -> np.ndarray:
    (image,) = decode_files(path.parent, [path.name], image_size, channels)
    assert image.shape == (channels, image_size, image_size)
    return image.permute(1, 2, 0).numpy()


def test_lossless_pixels_of_the_wanted_size_arrive_unchanged_and_in_order(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(200)]
    expected = [write_image(tmp_path / name) for name in names]
    images = decode_files(tmp_path, names, 8, 3)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "gif", "webp"])
def test_every_usual_format_is_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(decode(tmp_path / f"a.{suffix}")[4, 4], (200, 100, 50), atol=4)


def test_a_wide_image_keeps_its_proportions_and_loses_its_sides(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = (10, 200, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(decode(tmp_path / "wide.png")[:, 1:7], np.full((8, 6, 3), (10, 200, 30)))


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    assert np.ptp(decode(tmp_path / "board.png", channels=1)) < 10
    assert abs(int(decode(tmp_path / "board.png", channels=1).mean()) - 127) < 3


def test_a_large_jpeg_is_decoded_as_well_as_a_lossless_copy_of_it(tmp_path: Path) -> None:
    waves = 127 + 120 * np.sin(np.indices((400, 400)).sum(axis=0) / 7)
    Image.fromarray(np.stack([waves] * 3, axis=-1).astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    Image.open(tmp_path / "large.jpg").save(tmp_path / "large.png")
    difference = decode(tmp_path / "large.jpg", 40).astype(int) - decode(tmp_path / "large.png", 40)
    assert np.abs(difference).max() <= 5


def test_colour_becomes_grey_and_grey_becomes_colour(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    assert decode(tmp_path / "red.png", channels=1)[0, 0].tolist() == [76]
    grey = write_image(tmp_path / "grey.png", mode="L")
    np.testing.assert_array_equal(decode(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1))


def test_sixteen_bits_of_grey_are_scaled_to_eight(tmp_path: Path) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", channels=1)[..., 0], np.rint(deep / 257))


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # bright above
    turned_right = Image.Exif()
    turned_right[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=turned_right)
    upright = decode(tmp_path / "photo.png")
    assert (upright[:, 4:] == 255).all()
    assert (upright[:, :4] == 0).all()


@pytest.mark.parametrize("content", [b"", b"no image at all", "truncated"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_corrupt_file_among_good_ones_is_named(tmp_path: Path, content: bytes | str, suffix: str) -> None:
    names = [f"{number:03d}.{suffix}" for number in range(150)]
    for name in names:
        write_image(tmp_path / name)
    bad = tmp_path / names[77]
    bad.write_bytes(bad.read_bytes()[:-80] if isinstance(content, str) else content)
    with pytest.raises(UserError, match=rf"^cannot decode {re.escape(str(bad))} \(.*\): replace or remove the file"):
        decode_files(tmp_path, names, 8, 3)
