"""Hash values of images, used to find equal images."""

import hashlib

import numpy as np

from convbench.data.types import Split

DIGEST_BYTES = 8  # probability of a collision among a million different images: 3e-8


def digest(data: bytes | memoryview) -> bytes:
    """BLAKE2b hash of `data`, eight bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def pixel_digests(split: Split) -> list[bytes]:
    """Hash of the decoded pixels of each image of a split, eight bytes each."""
    pixels = np.ascontiguousarray(split.images.numpy())
    return [digest(pixels[row].data) for row in split.indices.tolist()]
