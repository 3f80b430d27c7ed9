"""Small folders of images for the tests."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convbench.data.folder import Folder

ARGUMENTS: dict[str, Any] = {
    "image_size": 8,
    "channels": 3,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "split_seed": 0,
    "mean": None,
    "std": None,
    "flip": True,
    "cache": None,
    "on_disk": False,
    "hint": "it has to hold train/CLASS/",
    "layout": "auto",
    "value_range": None,
}


def folder(root: Path, **changes: Any) -> Folder:
    return Folder(**{"root": str(root), **ARGUMENTS, **changes})


def write_image(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", **options: Any) -> np.ndarray:
    """Write an image of random pixels, which depend only on the file name, and return the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(path.name.encode()))
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = random.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def write_classes(root: Path, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        for number in range(count):
            write_image(root / name / f"{name}_{number:03d}.png")
