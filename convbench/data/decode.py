"""Decoding of image files into one uint8 tensor."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from convbench.data.pixels import PixelError, Pixels, Range
from convbench.errors import UserError

# Usual file name extensions of the supported formats; `.jfif` and `.jpe` are JPEG, `.dib` is BMP.
EXTENSIONS = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)

_GROUP = 64  # files per task: few enough for a smooth progress bar, enough to keep the scheduling overhead small


def decode_files(
    root: Path,
    files: Sequence[str],
    image_size: int,
    channels: int,
    value_range: Range | None = None,
    into: np.ndarray | None = None,
) -> Tensor:
    """Decode image files in several threads, each image directly into its row of the result.

    Args:
        root: folder that contains the files.
        files: N paths relative to `root`, with an extension of `EXTENSIONS`.
        image_size: H = W in pixels. The shorter side of an image is resized to it (bilinear, antialiased) and the
            centre is cropped, which keeps the aspect ratio.
        channels: 3 for RGB, 1 for greyscale.
        value_range: values of black and white in images of more than 8 bits; None for the range of the file format.
        into: output array, uint8 `(N, C, H, W)`; None to allocate it.

    Returns:
        uint8 `(N, C, H, W)`, contiguous.

    Raises:
        UserError: if a file cannot be decoded, or its range of values is not known; the message names the file.
    """
    shape = (len(files), channels, image_size, image_size)
    rows = torch.empty(shape, dtype=torch.uint8).numpy() if into is None else into

    def decode_group(start: int) -> int:
        group = files[start : start + _GROUP]
        for row, name in enumerate(group, start):
            pixels = _decode(root / name, image_size, channels, value_range)
            rows[row] = pixels if channels == 1 else pixels.transpose(2, 0, 1)
        return len(group)

    with (
        ThreadPoolExecutor(cpu_count()) as pool,
        tqdm(desc="decoding", total=len(files), unit="image", disable=not sys.stderr.isatty(), leave=False) as bar,
    ):
        try:
            for done in pool.map(decode_group, range(0, len(files), _GROUP)):
                bar.update(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # stop at the first corrupt file or at Ctrl-C
            raise
    return torch.from_numpy(rows)


def decode_image(
    image: str | Path | Image.Image | np.ndarray, image_size: int, channels: int, value_range: Range | None = None
) -> Tensor:
    """Decode one image in the same way as `decode_files`.

    Args:
        image: path of a file, PIL image, or uint8 array `(H, W)` or `(H, W, 3)`.
        image_size: as in `decode_files`.
        channels: as in `decode_files`.
        value_range: as in `decode_files`.

    Returns:
        uint8 `(C, H, W)`.

    Raises:
        UserError: if the image cannot be decoded.
    """
    source = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    pixels = _decode(Path(source) if isinstance(source, str) else source, image_size, channels, value_range)
    return torch.from_numpy(np.array(np.atleast_3d(pixels).transpose(2, 0, 1)))


def _decode(source: Path | Image.Image, image_size: int, channels: int, value_range: Range | None) -> np.ndarray:
    """Decode one image to uint8 `(H, W, 3)` or `(H, W)`."""
    size = (image_size, image_size)
    path = source if isinstance(source, Path) else "the image"
    try:
        if isinstance(source, Path):
            # Pillow decodes a large JPEG faster at reduced size; twice the final size is kept for the resizing.
            pixels = Pixels.read(source, smallest=2 * image_size, value_range=value_range)
        else:
            pixels = Pixels(ImageOps.exif_transpose(source), value_range=value_range)
        plain = pixels.on_white_background("RGB" if channels == 3 else "L")
        if plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
        return np.asarray(plain)
    except PixelError as error:
        raise UserError(
            f"{path} {error}: give data.value_range=[BLACK,WHITE], or replace the file (data.value_range)"
        ) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and others
        raise UserError(f"cannot decode {path} ({error}): replace or remove the file (data.root)") from error
