"""Conversion of image files of every Pillow mode to upright images of 8 bits, greyscale or RGB.

Modes with up to 8 bits per channel define which values are black and white. Deeper modes do not: unsigned 16-bit values
are scaled by their full range, and for signed, 32-bit and floating-point values the user must give the range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from convbench.errors import UserError

Range = tuple[float, float]

# Tags of TIFF files, and values of the tag `_SAMPLE_FORMAT` for unsigned and signed integers.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_UNSIGNED, _SIGNED = 1, 2

# PNG files of 2 and 4 bits: Pillow scales the pixels to 8 bits, but not the transparent grey value.
_GREY_STEPS = {"L;2": 85, "L;4": 17}
_GREY_MODES = ("1", "L", "LA", "La")


class PixelError(ValueError):
    """The values of black and white are unknown; the message continues a sentence that starts with the file name."""


def check_value_range(value_range: Sequence[float] | None) -> Range | None:
    """Check the values of black and white that a user gave.

    Raises:
        UserError: if they are not two finite numbers in ascending order.
    """
    if value_range is None:
        return None
    given = list(value_range) if isinstance(value_range, Sequence) and not isinstance(value_range, str) else []
    numbers = [value for value in given if isinstance(value, int | float) and not isinstance(value, bool)]
    if not (len(given) == len(numbers) == 2 and all(map(isfinite, numbers)) and numbers[0] < numbers[1]):
        raise UserError(
            f"data.value_range={value_range} is not a range: give the value of black and the higher value of white, "
            f"such as [0,4095], or null (data.value_range)"
        )
    return float(numbers[0]), float(numbers[1])


@dataclass(frozen=True)
class Pixels:
    """A decoded and upright image.

    Attributes:
        image: image that Pillow decoded, in any mode.
        rawmode: Pillow's name of the pixel format in a PNG file; empty for other formats.
        value_range: values of black and white that the user gave, or None.
    """

    image: Image.Image
    rawmode: str = ""
    value_range: Range | None = None

    @classmethod
    def read(cls, path: Path, smallest: int | None = None, value_range: Range | None = None) -> "Pixels":
        """Decode the first frame of an image file.

        Args:
            path: path of the file.
            smallest: minimum length of the shorter side in pixels if Pillow decodes a JPEG file at reduced size; None
                for the full size.
            value_range: values of black and white in images of more than 8 bits, or None.

        Raises:
            Exception: if Pillow cannot decode the file; Pillow raises many exception types.
        """
        with Image.open(path) as image:
            if smallest is not None:
                image.draft(None, (smallest, smallest))
            rawmode = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
            ImageOps.exif_transpose(image, in_place=True)  # apply the orientation that cameras store
        return cls(image, rawmode, value_range)

    @property
    def is_deep(self) -> bool:
        """Whether the image is greyscale with values other than the integers from 0 to 255."""
        mode = self.image.mode
        return mode == "F" or mode.startswith("I") or (mode == "L" and self._sample_format == _SIGNED)

    @property
    def has_transparency(self) -> bool:
        """Whether pixels may be transparent, by an alpha channel, a palette or a transparent colour."""
        return bool(self.image.has_transparency_data)

    def on_white_background(self, mode: str) -> Image.Image:
        """Convert the image to mode `L` or `RGB`, with a white background behind transparent pixels.

        Raises:
            PixelError: in the same cases as `in_8_bits`.
        """
        if self.image.mode == mode and not self.has_transparency and not self.is_deep:
            return self.image
        image = self.in_8_bits()
        if image.mode in ("LA", "RGBA"):
            background = Image.new("RGBA", image.size, "white")
            background.alpha_composite(image.convert("RGBA"))
            image = background.convert("RGB")
        return image if image.mode == mode else image.convert(mode)

    def in_8_bits(self) -> Image.Image:
        """Convert the image to mode `L`, `LA`, `RGB` or `RGBA`; other colour spaces and palettes become RGB.

        Raises:
            PixelError: if neither the file format nor `value_range` defines the values of black and white.
        """
        image, mode = self.image, ("L" if self.image.mode in _GREY_MODES else "RGB")
        if self.is_deep:
            grey = Image.fromarray(np.rint(255 * self.to_unit_range()).astype(np.uint8))
            return Image.merge("LA", (grey, self._deep_alpha())) if self.has_transparency else grey
        if not self.has_transparency:
            return image.convert(mode)
        return self._with_8_bit_transparency().convert(f"{mode}A")

    def to_unit_range(self) -> np.ndarray:
        """Convert a deep image to float64 `(H, W)` from 0 (black) to 1 (white); values outside are clipped.

        Raises:
            PixelError: if the values of black and white are not known.
            ValueError: if a pixel is nan.
        """
        limits = self.value_range or self._limits_of_format()
        if limits is None:
            raise PixelError(
                f"contains {self._number_type()} (mode {self.image.mode}), for which the values of black and white are "
                f"not known"
            )
        values = self._values()
        if np.isnan(values).any():
            raise ValueError(f"some pixels are nan, mode {self.image.mode}")
        black, white = limits
        return np.clip((values - black) / (white - black), 0, 1)

    def _limits_of_format(self) -> Range | None:
        """Values of black and white of a deep image, if the file format defines them."""
        image = self.image
        if self._tags:
            bits = self._tags.get(_BITS_PER_SAMPLE, (1,))[0]
            if self._sample_format != _UNSIGNED or bits > 16:
                return None
            top = float(2**bits - 1)
            return (top, 0.0) if self._tags.get(_PHOTOMETRIC) == 0 else (0.0, top)  # 0: WhiteIsZero
        # Pillow opens 16-bit greyscale as I;16, or as I for PGM files, whose maximum it scales to 65535.
        is_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        return (0.0, 65535.0) if is_16_bits else None

    def _values(self) -> np.ndarray:
        """Pixels of a deep image as float64 `(H, W)`, signed or unsigned as in the file."""
        stored = np.asarray(self.image)
        if self.image.mode == "L":
            stored = stored.view(np.int8)
        elif self.image.mode == "I" and self._tags and self._sample_format == _UNSIGNED:
            stored = stored.view(np.uint32)
        return stored.astype(np.float64)

    def _with_8_bit_transparency(self) -> Image.Image:
        """The image, with its transparent colour, if there is one, scaled to 8 bits like the pixels."""
        key: Any = self.image.info.get("transparency")
        if isinstance(key, tuple) and self.rawmode.endswith(";16B"):
            key = tuple(part >> 8 for part in key)  # Pillow keeps the upper 8 bits of each pixel
        elif isinstance(key, int) and self.rawmode in _GREY_STEPS:
            key *= _GREY_STEPS[self.rawmode]
        else:
            return self.image
        image = self.image.copy()
        image.info["transparency"] = key
        return image

    def _deep_alpha(self) -> Image.Image:
        is_opaque = np.asarray(self.image) != self.image.info["transparency"]
        return Image.fromarray(np.where(is_opaque, 255, 0).astype(np.uint8))

    @property
    def _tags(self) -> Mapping[int, Any]:
        """Tags of a TIFF file; empty for other formats."""
        return getattr(self.image, "tag_v2", {})

    @property
    def _sample_format(self) -> int:
        return int(self._tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0])

    def _number_type(self) -> str:
        if self.image.mode == "F":
            return "floating-point numbers"
        bits = self._tags.get(_BITS_PER_SAMPLE, (32,))[0]
        return f"{'signed ' if self._sample_format == _SIGNED else ''}{bits}-bit integers"
