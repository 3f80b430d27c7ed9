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


def test_lossless_images_of_the_final_size_are_returned_unchanged_and_in_order(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(200)]
    expected = [write_image(tmp_path / name) for name in names]
    images = decode_files(tmp_path, names, 8, 3)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "gif", "webp"])
def test_common_image_formats_are_decoded(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(decode(tmp_path / f"a.{suffix}")[4, 4], (200, 100, 50), atol=4)


def test_a_wide_image_keeps_its_aspect_ratio_and_is_cropped_at_the_sides(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = (10, 200, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(decode(tmp_path / "wide.png")[:, 1:7], np.full((8, 6, 3), (10, 200, 30)))


def test_downscaling_averages_pixels(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    assert np.ptp(decode(tmp_path / "board.png", channels=1)) < 10
    assert abs(int(decode(tmp_path / "board.png", channels=1).mean()) - 127) < 3


def test_a_large_jpeg_and_a_lossless_copy_give_nearly_the_same_pixels(tmp_path: Path) -> None:
    waves = 127 + 120 * np.sin(np.indices((400, 400)).sum(axis=0) / 7)
    Image.fromarray(np.stack([waves] * 3, axis=-1).astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    Image.open(tmp_path / "large.jpg").save(tmp_path / "large.png")
    difference = decode(tmp_path / "large.jpg", 40).astype(int) - decode(tmp_path / "large.png", 40)
    assert np.abs(difference).max() <= 5


def test_colour_is_converted_to_greyscale_and_greyscale_to_colour(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    assert decode(tmp_path / "red.png", channels=1)[0, 0].tolist() == [76]
    grey = write_image(tmp_path / "grey.png", mode="L")
    np.testing.assert_array_equal(decode(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1))


def test_16_bit_greyscale_is_scaled_to_8_bits(tmp_path: Path) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", channels=1)[..., 0], np.rint(deep / 257))


def test_an_image_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # bright upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    upright = decode(tmp_path / "photo.png")
    assert (upright[:, 4:] == 255).all()
    assert (upright[:, :4] == 0).all()


@pytest.mark.parametrize("content", [b"", b"no image at all", "truncated"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_error_for_a_corrupt_file_names_the_file(tmp_path: Path, content: bytes | str, suffix: str) -> None:
    names = [f"{number:03d}.{suffix}" for number in range(150)]
    for name in names:
        write_image(tmp_path / name)
    bad = tmp_path / names[77]
    bad.write_bytes(bad.read_bytes()[:-80] if isinstance(content, str) else content)
    with pytest.raises(UserError, match=rf"{re.escape(str(bad))} .*\(data\.root\)$"):
        decode_files(tmp_path, names, 8, 3)
