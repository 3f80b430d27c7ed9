"""Image files of every Pillow mode and their expected pixels."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from convbench.data.decode import decode_files
from convbench.data.pixels import Pixels, check_value_range
from convbench.diagnostics.picture import Picture
from convbench.errors import UserError

Colour = tuple[int, int, int]

WHITE = (255, 255, 255)
SIZE = 8


def decoded(path: Path, channels: int, value_range: tuple[float, float] | None = None) -> list[int]:
    """Decode a file of 8x8 pixels of one colour and return this colour; all pixels must be equal."""
    (image,) = decode_files(path.parent, [path.name], SIZE, channels, value_range)
    (colour,) = np.unique(image.flatten(1).numpy(), axis=1).T.tolist()
    return colour


def luma(colour: Colour) -> int:
    """Luma of a colour by ITU-R BT.601."""
    return round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])


def png(path: Path, bits: int, colour_type: int, pixel: bytes, transparent: bytes = b"", palette: bytes = b"") -> None:
    """Write the chunks of a PNG file of one colour; Pillow cannot write all bit depths and `tRNS` chunks.

    Args:
        path: path of the file.
        bits: bits per channel.
        colour_type: 0 greyscale, 2 RGB, 3 palette, 4 greyscale with alpha, 6 RGB with alpha.
        pixel: bytes that are repeated to fill a row.
        transparent: content of the chunk `tRNS`.
        palette: content of the chunk `PLTE`.
    """

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row_bytes = SIZE * channels * bits // 8
    rows = (b"\0" + pixel * (row_bytes // len(pixel))) * SIZE
    content = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, bits, colour_type, 0, 0, 0))
    content += chunk(b"PLTE", palette) if palette else b""
    content += chunk(b"tRNS", transparent) if transparent else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def tiff(
    path: Path,
    pixel: bytes,
    bits: tuple[int, ...],
    photometric: int = 1,
    sample_format: int = 1,
    big: bool = False,
    extra: int | None = None,
) -> None:
    """Write an uncompressed TIFF file of one colour with one strip and sorted tags."""
    order, mark = (">", b"MM") if big else ("<", b"II")
    data = pixel * (SIZE * SIZE * sum(bits) // 8 // len(pixel))
    outside = b"".join(struct.pack(f"{order}H", number) for number in bits) if len(bits) > 2 else b""
    tags: list[tuple[int, int, int | tuple[int, ...]]] = [
        (256, 3, SIZE),
        (257, 3, SIZE),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, len(bits)),
        (278, 3, SIZE),
        (279, 4, len(data)),
        *([] if extra is None else [(338, 3, extra)]),
        (339, 3, sample_format),
    ]
    entries = b""
    for tag, kind, value in tags:
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > 2:
            content = struct.pack(f"{order}I", 8 + len(data))
        else:
            content = b"".join(struct.pack(order + ("H" if kind == 3 else "I"), number) for number in values)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    start = 8 + len(data) + len(outside)
    head = mark + struct.pack(f"{order}HI", 42, start)
    path.write_bytes(head + data + outside + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4)


def pillow(mode: str, colour: object, **options: object) -> Callable[[Path], None]:
    """Return a function that writes an image of one colour with Pillow."""
    return lambda path: Image.new(mode, (SIZE, SIZE), colour).save(path, **options)  # type: ignore[arg-type]


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content.encode()) and None


class Row(NamedTuple):
    """A kind of file, its expected colour, and the tolerance per channel (for lossy or integer formats)."""

    name: str
    write: Callable[[Path], object]
    colour: Colour
    tolerance: int = 0


def grey(value: int) -> Colour:
    return (value, value, value)


ORANGE = (200, 100, 0)
# ORANGE with an opacity of 51/255 = 0.2 on white: 0.2 * c + 0.8 * 255. Other colours below have the same opacity.
PALE = (244, 224, 204)
TABLE = [
    # Opaque images of up to 8 bits
    Row("bilevel.png", pillow("1", 1), WHITE),
    Row("bilevel.pbm", text("P1\n8 8\n" + "1 " * 64), grey(0)),
    Row("two_bits.png", lambda p: png(p, 2, 0, b"\xaa"), grey(170)),
    Row("four_bits.png", lambda p: png(p, 4, 0, b"\x55"), grey(85)),
    Row("grey.png", pillow("L", 77), grey(77)),
    Row("grey.tif", pillow("L", 77), grey(77)),
    Row("white_is_zero.tif", lambda p: tiff(p, b"\x0a", (8,), photometric=0), grey(245)),
    Row("rgb.png", pillow("RGB", ORANGE), ORANGE),
    Row("rgb.bmp", pillow("RGB", ORANGE), ORANGE),
    Row("rgb.jfif", pillow("RGB", ORANGE, quality=100, format="JPEG"), ORANGE, 2),
    Row("rgb.webp", pillow("RGB", ORANGE, lossless=True), ORANGE),
    Row("palette16.png", lambda p: png(p, 4, 3, b"\x11", palette=bytes([0, 0, 0, *ORANGE])), ORANGE),
    Row("palette256.png", lambda p: png(p, 8, 3, b"\x02", palette=bytes([0] * 6 + [*ORANGE])), ORANGE),
    Row("palette.gif", pillow("RGB", ORANGE), ORANGE),
    Row("cmyk.tif", pillow("CMYK", (55, 155, 255, 0)), ORANGE),
    Row("cmyk.jpg", pillow("CMYK", (55, 155, 255, 0), quality=100), ORANGE, 2),
    Row("ycbcr.jpg", pillow("YCbCr", (118, 61, 186), quality=100), ORANGE, 2),
    Row("lab.tif", pillow("LAB", (128, 128, 128)), grey(119), 1),
    # PGM and PPM files with different maximum values
    Row("top255.pgm", text("P2\n8 8\n255\n" + "77 " * 64), grey(77)),
    Row("top100.pgm", text("P2\n8 8\n100\n" + "50 " * 64), grey(128)),
    Row("top1023.pgm", text("P2\n8 8\n1023\n" + "300 " * 64), grey(75)),
    Row("top65535.pgm", text("P2\n8 8\n65535\n" + "25700 " * 64), grey(100)),
    Row("raw1023.pgm", lambda p: p.write_bytes(b"P5 8 8 1023\n" + struct.pack(">H", 300) * 64), grey(75)),
    Row("raw65535.pgm", lambda p: p.write_bytes(b"P5 8 8 65535\n" + struct.pack(">H", 25700) * 64), grey(100)),
    Row("raw1023.ppm", lambda p: p.write_bytes(b"P6 8 8 1023\n" + struct.pack(">3H", 802, 401, 0) * 64), ORANGE),
    # Unsigned 16-bit values v: v / 257
    Row("deep.png", lambda p: png(p, 16, 0, struct.pack(">H", 25700)), grey(100)),
    Row("deep_rounds_up.png", lambda p: png(p, 16, 0, struct.pack(">H", 25829)), grey(101)),
    Row("deep_white.png", lambda p: png(p, 16, 0, b"\xff\xff"), WHITE),
    Row("deep_little.tif", lambda p: tiff(p, struct.pack("<H", 25700), (16,)), grey(100)),
    Row("deep_big.tif", lambda p: tiff(p, struct.pack(">H", 25700), (16,), big=True), grey(100)),
    Row("deep_white_is_zero.tif", lambda p: tiff(p, struct.pack("<H", 25700), (16,), photometric=0), grey(155)),
    Row("twelve_bits.tif", lambda p: tiff(p, b"\x80\x88\x08", (12,)), grey(128)),
    Row("deep_rgb.png", lambda p: png(p, 16, 2, struct.pack(">3H", 51400, 25700, 0)), ORANGE),
    Row("deep_rgb.tif", lambda p: tiff(p, struct.pack("<3H", 51400, 25700, 0), (16,) * 3, 2), ORANGE),
    # Transparent images on a white background
    Row("bilevel_clear.png", lambda p: png(p, 1, 0, b"\0", b"\0\0"), WHITE),
    Row("two_bits_clear.png", lambda p: png(p, 2, 0, b"\x55", b"\0\1"), WHITE),
    Row("two_bits_other_clear.png", lambda p: png(p, 2, 0, b"\x55", b"\0\2"), grey(85)),
    Row("four_bits_clear.png", lambda p: png(p, 4, 0, b"\x55", b"\0\5"), WHITE),
    Row("grey_clear.png", pillow("L", 77, transparency=77), WHITE),
    Row("grey_other_clear.png", pillow("L", 77, transparency=78), grey(77)),
    Row("deep_clear.png", lambda p: png(p, 16, 0, b"\x12\x34", b"\x12\x34"), WHITE),
    Row("deep_other_clear.png", lambda p: png(p, 16, 0, b"\x64\x64", b"\x64\x65"), grey(100)),
    Row("rgb_clear.png", pillow("RGB", ORANGE, transparency=ORANGE), WHITE),
    Row("rgb_other_clear.png", pillow("RGB", ORANGE, transparency=(200, 100, 1)), ORANGE),
    Row("deep_rgb_clear.png", lambda p: png(p, 16, 2, b"\x12\x34" * 3, b"\x12\x34" * 3), WHITE),
    Row("palette_entry_clear.png", lambda p: png(p, 8, 3, b"\1", b"\xff\0", bytes([0] * 3 + [*ORANGE])), WHITE),
    Row("palette_alpha.png", lambda p: png(p, 8, 3, b"\1", b"\xff\x33", bytes([0] * 3 + [*ORANGE])), PALE),
    Row("palette_clear.gif", pillow("P", 3, transparency=3), WHITE),
    Row("la.png", pillow("LA", (100, 51)), grey(224)),
    Row("deep_la.png", lambda p: png(p, 16, 4, struct.pack(">2H", 25700, 51 * 257)), grey(224)),
    Row("rgba.png", pillow("RGBA", (*ORANGE, 51)), PALE),
    Row("rgba.webp", pillow("RGBA", (*ORANGE, 51), lossless=True, exact=True), PALE),
    Row("deep_rgba.png", lambda p: png(p, 16, 6, struct.pack(">4H", 51400, 25700, 0, 51 * 257)), PALE),
    Row("rgba.tif", lambda p: tiff(p, bytes([*ORANGE, 51]), (8,) * 4, 2, extra=2), PALE),
    Row("premultiplied_rgba.tif", lambda p: tiff(p, bytes([40, 20, 0, 51]), (8,) * 4, 2, extra=1), PALE),
    Row("premultiplied_la.tif", lambda p: tiff(p, bytes([20, 51]), (8, 8), 1, extra=1), grey(224)),
    Row("la.tif", lambda p: tiff(p, bytes([100, 51]), (8, 8), 1, extra=2), grey(224)),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_files_of_every_mode_are_decoded_to_the_right_colour_and_greyscale_value(tmp_path: Path, row: Row) -> None:
    row.write(tmp_path / row.name)
    np.testing.assert_allclose(decoded(tmp_path / row.name, 3), row.colour, rtol=0, atol=row.tolerance)
    np.testing.assert_allclose(decoded(tmp_path / row.name, 1), [luma(row.colour)], rtol=0, atol=row.tolerance)


def in_memory(mode: str, colour: object) -> Image.Image:
    image = Image.new(mode, (SIZE, SIZE), colour)  # type: ignore[arg-type]
    if mode.startswith("P"):
        image.putpalette([0, 0, 0, *ORANGE])
    return image


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (in_memory("1", 1), WHITE),
        (in_memory("La", (20, 51)), grey(224)),
        (in_memory("RGBa", (40, 20, 0, 51)), PALE),
        (in_memory("PA", (1, 51)), PALE),
        (in_memory("P", 1), ORANGE),
        (in_memory("RGBX", (*ORANGE, 9)), ORANGE),
        (in_memory("HSV", (21, 255, 200)), (200, 99, 0)),
        (in_memory("I;16", 25700), grey(100)),
        (in_memory("I;16L", 25700), grey(100)),
        (in_memory("I;16B", 25700), grey(100)),
        (in_memory("I;16N", 25700), grey(100)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_rare_modes_are_converted_to_the_right_colour(image: Image.Image, colour: Colour) -> None:
    assert Pixels(image).on_white_background("RGB").getpixel((4, 4)) == colour
    assert Pixels(image).on_white_background("L").getpixel((4, 4)) == luma(colour)


def signed(value: int) -> bytes:
    return struct.pack("<h", value)


# File name, function that writes the file, range of values, and greyscale value for this range.
WITHOUT_RANGE = [
    ("float.tif", lambda p: tiff(p, struct.pack("<f", 0.25), (32,), sample_format=3), (0.0, 1.0), 64),
    ("float_big.tif", lambda p: tiff(p, struct.pack(">f", -5), (32,), sample_format=3, big=True), (-10.0, 0.0), 128),
    ("infinite.tif", lambda p: tiff(p, struct.pack("<f", np.inf), (32,), sample_format=3), (0.0, 1.0), 255),
    ("signed16.tif", lambda p: tiff(p, signed(-1), (16,), sample_format=2), (-1.0, 254.0), 0),
    ("signed16_big.tif", lambda p: tiff(p, b"\xff\xff", (16,), sample_format=2, big=True), (-2.0, 0.0), 128),
    ("signed8.tif", lambda p: tiff(p, b"\xff", (8,), sample_format=2), (-1.0, 254.0), 0),
    ("signed32.tif", lambda p: tiff(p, struct.pack("<i", 70000), (32,), sample_format=2), (0.0, 140000.0), 128),
    ("unsigned32.tif", lambda p: tiff(p, struct.pack("<I", 2**32 - 1), (32,)), (0.0, 2.0**32 - 1), 255),
]


@pytest.mark.parametrize(
    ("name", "write", "value_range", "expected"), WITHOUT_RANGE, ids=[row[0] for row in WITHOUT_RANGE]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_without_a_defined_range_are_refused_unless_a_range_is_given(
    tmp_path: Path,
    name: str,
    write: Callable[[Path], object],
    value_range: tuple[float, float],
    expected: int,
    channels: int,
) -> None:
    write(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        mode = image.mode
    with pytest.raises(UserError) as error:
        decoded(tmp_path / name, channels)
    assert str(tmp_path / name) in str(error.value)
    assert f"mode {mode}" in str(error.value)
    assert "(data.value_range)" in str(error.value)
    assert decoded(tmp_path / name, channels, value_range) == [expected] * channels
    with pytest.raises(UserError, match=name):
        Picture.read(tmp_path / name)


def test_a_range_also_applies_to_16_bit_greyscale_and_values_outside_are_clipped(tmp_path: Path) -> None:
    for value, expected in ((0, 0), (1000, 0), (2000, 128), (3000, 255), (65535, 255)):
        png(tmp_path / "microscope.png", 16, 0, struct.pack(">H", value))
        assert decoded(tmp_path / "microscope.png", 1, (1000.0, 3000.0)) == [expected]


def test_a_range_has_no_effect_on_8_bit_images(tmp_path: Path) -> None:
    pillow("L", 77)(tmp_path / "a.png")
    assert decoded(tmp_path / "a.png", 1, (0.0, 4095.0)) == [77]


def test_the_error_for_a_nan_pixel_names_the_file(tmp_path: Path) -> None:
    tiff(tmp_path / "depth.tif", struct.pack("<f", np.nan), (32,), sample_format=3)
    with pytest.raises(UserError, match=r"depth\.tif .*nan"):
        decoded(tmp_path / "depth.tif", 1, (0.0, 1.0))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_deep_or_transparent_image_is_rotated_by_its_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    deep = np.full((SIZE, SIZE), 65535, np.uint16)
    deep[:4] = 0  # dark upper half
    Image.fromarray(deep).save(tmp_path / "deep.png", exif=exif)
    clear = np.zeros((SIZE, SIZE, 4), np.uint8)
    clear[:4, :, 3] = 255  # the lower half is transparent, so it becomes white
    Image.fromarray(clear).save(tmp_path / "clear.png", exif=exif)
    for name in ("deep.png", "clear.png"):
        (image,) = decode_files(tmp_path, [name], SIZE, 1)
        dark = image[0, 4:] if orientation == 3 else image[0, :, 4:]
        assert not dark.any()
        assert int((image == 255).sum()) == 32


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "apng"])
def test_the_first_frame_of_an_animation_is_decoded(tmp_path: Path, suffix: str, frames: int) -> None:
    first, *others = [Image.new("RGB", (SIZE, SIZE), grey(60 * number)) for number in range(1, 1 + frames)]
    options = {"lossless": True} if suffix == "webp" else {}
    kind = "PNG" if suffix == "apng" else None
    first.save(tmp_path / f"a.{suffix}", kind, save_all=True, append_images=others, **options)
    assert decoded(tmp_path / f"a.{suffix}", 3) == [60, 60, 60]


def test_a_jpeg_and_a_lossless_copy_have_equal_greyscale_values(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "a.jpg", quality=60)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.png")
    (lossy,) = decode_files(tmp_path, ["a.jpg"], SIZE, 1)
    (lossless,) = decode_files(tmp_path, ["a.png"], SIZE, 1)
    np.testing.assert_array_equal(lossy, lossless)


def test_an_image_of_one_pixel_is_enlarged_and_the_error_for_an_empty_image_names_it(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 77).save(tmp_path / "dot.png")
    Image.new("L", (1, 50), 77).save(tmp_path / "line.png")
    assert decoded(tmp_path / "dot.png", 3) == decoded(tmp_path / "line.png", 3) == [77] * 3
    (tmp_path / "none.pgm").write_bytes(b"P5 0 0 255\n")
    with pytest.raises(UserError, match=r"none\.pgm"):
        decoded(tmp_path / "none.pgm", 3)


@pytest.mark.parametrize("given", [5, "0,255", [0], [0, 1, 2], [1, 1], [2, 1], [0, float("nan")], [0, "a"], [True, 2]])
def test_the_error_for_an_invalid_range_gives_the_key(given: object) -> None:
    with pytest.raises(UserError, match=r"data\.value_range"):
        check_value_range(given)  # type: ignore[arg-type]
