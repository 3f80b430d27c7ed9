"""Decoded images on disk, so that a second start reads one file instead of thousands.

A cache file is a `.npy` file, which `numpy.load` reads, followed by four bytes of checksum.
"""

import hashlib
import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convbench.files import atomic_path

log = logging.getLogger("convbench")

_UNREADABLE = (OSError, ValueError, EOFError, MemoryError)


class TensorCache:
    """One uint8 tensor in one file of a cache folder.

    Args:
        folder: cache folder; created when something is stored.
        slot: what the tensor is of, for example a folder and an image size. A slot holds one tensor: storing removes
            the one before, so caches of changed folders do not pile up.
        key: everything that the tensor was made from; another key is a miss.
    """

    def __init__(self, folder: Path, slot: str, key: str) -> None:
        self._slot, digest = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (slot, key))
        self.path = folder / f"{self._slot}-{digest}.npy"

    def read(self) -> Tensor | None:
        """The stored tensor, or None if there is none of this key, or its file is damaged."""
        try:
            with self.path.open("rb") as file:
                pixels = np.load(file)
                rest = file.read()
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            log.warning("ignoring the unreadable cache %s (%s)", self.path, error)
            return None
        if pixels.dtype != np.uint8 or rest != _checksum(pixels):
            log.warning("ignoring the damaged cache %s", self.path)
            return None
        return torch.from_numpy(pixels)

    def map(self) -> Tensor | None:
        """The stored tensor as a memory-mapped file, for one that memory may not hold; None as for `read`.

        Its checksum is not compared, which would read all of it.
        """
        try:
            # Copy on write: what is written to the tensor, which nobody does, does not reach the file.
            pixels = np.load(self.path, mmap_mode="c")
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            log.warning("ignoring the unreadable cache %s (%s)", self.path, error)
            return None
        return torch.from_numpy(pixels)

    def fill(self, shape: Sequence[int], decode: Callable[[np.ndarray], object]) -> None:
        """Let a tensor of this shape be decoded straight into the file, for one that memory may not hold.

        Raises:
            OSError: if the folder cannot be written, or the disk is full.
        """
        with atomic_path(self.path) as unfinished:
            pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, tuple(shape))
            decode(pixels)
            pixels.flush()
            with unfinished.open("ab") as file:
                file.write(_checksum(pixels))
        self._remove_others()

    def write(self, images: Tensor) -> None:
        """Store a tensor, completely or not at all; a folder that cannot be written is a warning.

        Args:
            images: uint8, of any shape.
        """
        pixels = np.ascontiguousarray(images.numpy())
        try:
            with atomic_path(self.path) as unfinished, unfinished.open("wb") as file:
                np.save(file, pixels)
                file.write(_checksum(pixels))
            self._remove_others()
        except OSError as error:
            log.warning(
                "cannot write the cache of decoded images to %s (%s); set data.cache to a folder of yours, or to null",
                self.path.parent,
                error,
            )

    def _remove_others(self) -> None:
        for path in self.path.parent.glob(f"{self._slot}*"):  # `.images` files are those of earlier versions
            if path != self.path and path.suffix in (".npy", ".images"):
                path.unlink(missing_ok=True)


def _checksum(pixels: np.ndarray) -> bytes:
    return zlib.crc32(pixels.reshape(-1).data).to_bytes(4, "little")
