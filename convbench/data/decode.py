"""Image files to one uint8 tensor."""

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

from convbench.errors import UserError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_GROUP = 64  # files a task: small enough for a smooth bar, large enough to make handing out work cheap


def decode_files(
    root: Path, files: Sequence[str], image_size: int, channels: int, into: np.ndarray | None = None
) -> Tensor:
    """Decode image files in threads, each straight into its row of the result.

    Args:
        root: folder that `files` are relative to.
        files: paths with an extension of `EXTENSIONS`, N of them.
        image_size: H = W in pixels. The shorter side of an image is resized to it (bilinear, antialiased) and the
            centre cut out, so that nothing is stretched.
        channels: 3 for RGB, 1 for grey.
        into: where to, uint8 `(N, C, H, W)`; memory of its own if None.

    Returns:
        uint8 `(N, C, H, W)`, contiguous.

    Raises:
        UserError: if a file cannot be decoded; the message names it.
    """
    shape = (len(files), channels, image_size, image_size)
    rows = torch.empty(shape, dtype=torch.uint8).numpy() if into is None else into

    def decode_group(start: int) -> int:
        group = files[start : start + _GROUP]
        for row, name in enumerate(group, start):
            pixels = _decode(root / name, image_size, channels)
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
            pool.shutdown(wait=False, cancel_futures=True)  # one corrupt file, or Ctrl-C, is enough to stop
            raise
    return torch.from_numpy(rows)


def _decode(path: Path, image_size: int, channels: int) -> np.ndarray:
    """Pixels of one file, uint8 `(H, W, 3)` or `(H, W)`."""
    mode, size = ("RGB" if channels == 3 else "L"), (image_size, image_size)
    try:
        with Image.open(path) as image:
            # A large JPEG is decoded at a fraction of its size where that leaves twice what is wanted.
            image.draft(mode, (2 * image_size, 2 * image_size))
            upright = ImageOps.exif_transpose(image)  # cameras store which side is up
            plain = upright if upright.mode == mode else _to_mode(upright, mode)
            if plain.size != size:
                plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
            return np.asarray(plain)
    except Exception as error:  # the readers of the formats raise many kinds: OSError, SyntaxError, struct.error, ...
        raise UserError(f"cannot decode {path} ({error}): replace or remove the file (data.root)") from error


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert to RGB or L: 16 bits keep their upper 8, what is transparent becomes white."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image)
        image = ground
    return image.convert(mode)
