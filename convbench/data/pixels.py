"""What an image file holds, turned upright and brought to 8 bits of grey or RGB: every mode of Pillow in one place.

Modes of 8 bits a channel or fewer have their black and white by definition. Deeper ones do not: 16 bits without a sign
are scaled by their full range; numbers with a sign, of 32 bits or with a floating point need to be told their range.
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

# Tags of TIFF files, and the value of `_SAMPLE_FORMAT` for whole numbers without a sign.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_UNSIGNED, _SIGNED = 1, 2

# PNG files of 2 and 4 bits: Pillow scales the pixels to 8 bits, but not the grey value that is transparent.
_GREY_STEPS = {"L;2": 85, "L;4": 17}
_GREY_MODES = ("1", "L", "LA", "La")


class PixelError(ValueError):
    """Pixels of which nothing says what black and white are; the message goes on from the name of the file."""


def check_value_range(value_range: Sequence[float] | None) -> Range | None:
    """The values of black and of white as a user gave them.

    Raises:
        UserError: if they are no two finite numbers, the lower one first.
    """
    if value_range is None:
        return None
    given = list(value_range) if isinstance(value_range, Sequence) and not isinstance(value_range, str) else []
    numbers = [value for value in given if isinstance(value, int | float) and not isinstance(value, bool)]
    if not (len(given) == len(numbers) == 2 and all(map(isfinite, numbers)) and numbers[0] < numbers[1]):
        raise UserError(
            f"data.value_range={value_range} is not a range: give the value of black and the higher one of white, such "
            f"as [0,4095], or null (data.value_range)"
        )
    return float(numbers[0]), float(numbers[1])


@dataclass(frozen=True)
class Pixels:
    """An image file that has been decoded and turned upright.

    Attributes:
        image: as Pillow decoded it, in any mode.
        rawmode: how a PNG file stores its pixels, in Pillow's terms; empty for other formats.
        value_range: values of black and white that the user gave, or None.
    """

    image: Image.Image
    rawmode: str = ""
    value_range: Range | None = None

    @classmethod
    def read(cls, path: Path, smallest: int | None = None, value_range: Range | None = None) -> "Pixels":
        """Decode the first picture of a file.

        Args:
            path: the file.
            smallest: the shorter side may be reduced to this many pixels while decoding, which a JPEG file allows;
                None for the whole size.
            value_range: values of black and white in images of more than 8 bits, or None.

        Raises:
            Exception: of many kinds, if Pillow cannot decode the file.
        """
        with Image.open(path) as image:
            if smallest is not None:
                image.draft(None, (smallest, smallest))
            rawmode = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
            ImageOps.exif_transpose(image, in_place=True)  # cameras store which side is up
        return cls(image, rawmode, value_range)

    @property
    def is_deep(self) -> bool:
        """Whether the image is grey of more than 8 bits, or of another kind of numbers than 0 to 255."""
        mode = self.image.mode
        return mode == "F" or mode.startswith("I") or (mode == "L" and self._sample_format == _SIGNED)

    @property
    def has_transparency(self) -> bool:
        """Whether any pixel may be transparent: by an alpha channel, a palette or a colour that stands for nothing."""
        return bool(self.image.has_transparency_data)

    def on_white(self, mode: str) -> Image.Image:
        """The image in mode `L` or `RGB`, with white behind what is transparent.

        Raises:
            PixelError: as `in_8_bits`.
        """
        if self.image.mode == mode and not self.has_transparency and not self.is_deep:
            return self.image
        image = self.in_8_bits()
        if image.mode in ("LA", "RGBA"):
            ground = Image.new("RGBA", image.size, "white")
            ground.alpha_composite(image.convert("RGBA"))
            image = ground.convert("RGB")
        return image if image.mode == mode else image.convert(mode)

    def in_8_bits(self) -> Image.Image:
        """The image in mode `L`, `LA`, `RGB` or `RGBA`; other colour spaces and palettes become RGB.

        Raises:
            PixelError: if neither the file's format nor `value_range` says what black and white are.
        """
        image, kind = self.image, ("L" if self.image.mode in _GREY_MODES else "RGB")
        if self.is_deep:
            grey = Image.fromarray(np.rint(255 * self.shares_of_white()).astype(np.uint8))
            return Image.merge("LA", (grey, self._deep_alpha())) if self.has_transparency else grey
        if not self.has_transparency:
            return image.convert(kind)
        return self._with_key_of_8_bits().convert(f"{kind}A")

    def shares_of_white(self) -> np.ndarray:
        """A deep image as float64 `(H, W)` from 0, black, to 1, white; values beyond are cut off.

        Raises:
            PixelError: if nothing says what black and white are.
            ValueError: if a pixel is nan.
        """
        limits = self.value_range or self._limits_of_format()
        if limits is None:
            raise PixelError(
                f"holds {self._kind_of_numbers()} (mode {self.image.mode}), and nothing says which values are black "
                f"and white"
            )
        values = self._values()
        if np.isnan(values).any():
            raise ValueError(f"some of its pixels are nan, mode {self.image.mode}")
        black, white = limits
        return np.clip((values - black) / (white - black), 0, 1)

    def _limits_of_format(self) -> Range | None:
        """Black and white of a deep image, where its format fixes them."""
        image = self.image
        if self._tags:
            bits = self._tags.get(_BITS_PER_SAMPLE, (1,))[0]
            if self._sample_format != _UNSIGNED or bits > 16:
                return None
            top = float(2**bits - 1)
            return (top, 0.0) if self._tags.get(_PHOTOMETRIC) == 0 else (0.0, top)  # 0: the lowest value is white
        # Pillow opens grey of 16 bits as I;16, or as I (PGM files, whose highest value it has scaled to 65535).
        is_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        return (0.0, 65535.0) if is_16_bits else None

    def _values(self) -> np.ndarray:
        """The numbers of a deep image as float64 `(H, W)`, with the sign that the file gives them."""
        stored = np.asarray(self.image)
        if self.image.mode == "L":
            stored = stored.view(np.int8)
        elif self.image.mode == "I" and self._tags and self._sample_format == _UNSIGNED:
            stored = stored.view(np.uint32)
        return stored.astype(np.float64)

    def _with_key_of_8_bits(self) -> Image.Image:
        """The image with the colour that stands for nothing, if there is one, in the scale of its pixels."""
        key: Any = self.image.info.get("transparency")
        if isinstance(key, tuple) and self.rawmode.endswith(";16B"):
            key = tuple(part >> 8 for part in key)  # Pillow keeps the upper 8 bits of a pixel
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
        """The tags of a TIFF file; none of other formats."""
        return getattr(self.image, "tag_v2", {})

    @property
    def _sample_format(self) -> int:
        return int(self._tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0])

    def _kind_of_numbers(self) -> str:
        if self.image.mode == "F":
            return "floating-point numbers"
        bits = self._tags.get(_BITS_PER_SAMPLE, (32,))[0]
        return f"whole numbers of {bits} bits{' with a sign' if self._sample_format == _SIGNED else ''}"
