"""Cache of decoded images on disk: the next run reads one file instead of thousands.

A cache file is a `.npy` file, which `numpy.load` can read, followed by a checksum of four bytes.
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
    """One uint8 tensor, stored in one file of a cache folder.

    Args:
        folder: cache folder; it is created when a tensor is stored.
        slot: identifier of the data set, for example its folder and the image size. A slot holds one tensor: storing
            a new one deletes the old one, so that outdated files do not accumulate.
        key: description of everything that determines the tensor; a different key is a cache miss.
    """

    def __init__(self, folder: Path, slot: str, key: str) -> None:
        self._slot, digest = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (slot, key))
        self.path = folder / f"{self._slot}-{digest}.npy"

    def read(self) -> Tensor | None:
        """Read the stored tensor; None if the cache holds no tensor for this key or the file is damaged."""
        try:
            with self.path.open("rb") as file:
                pixels = np.load(file)
                checksum = file.read()
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            log.warning("cannot read the cache file %s (%s); it is ignored", self.path, error)
            return None
        if pixels.dtype != np.uint8 or checksum != _checksum(pixels):
            log.warning("the cache file %s is damaged; it is ignored", self.path)
            return None
        return torch.from_numpy(pixels)

    def map(self) -> Tensor | None:
        """Map the stored tensor into memory, for tensors larger than the memory; None as in `read`.

        The checksum is not verified, because that would read the whole file.
        """
        try:
            # Copy on write: changes to the tensor would not change the file.
            pixels = np.load(self.path, mmap_mode="c")
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            log.warning("cannot read the cache file %s (%s); it is ignored", self.path, error)
            return None
        return torch.from_numpy(pixels)

    def fill(self, shape: Sequence[int], decode: Callable[[np.ndarray], object]) -> None:
        """Decode images directly into the file, for tensors larger than the memory.

        Args:
            shape: shape of the tensor.
            decode: function that fills a memory-mapped uint8 array of this shape.

        Raises:
            OSError: if the folder cannot be written, or the disk is full.
        """
        with atomic_path(self.path) as temporary:
            pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, tuple(shape))
            decode(pixels)
            pixels.flush()
            with temporary.open("ab") as file:
                file.write(_checksum(pixels))
        self._remove_others()

    def write(self, images: Tensor) -> None:
        """Store a tensor atomically; if the folder cannot be written, log a warning.

        Args:
            images: uint8 tensor of any shape.
        """
        pixels = np.ascontiguousarray(images.numpy())
        try:
            with atomic_path(self.path) as temporary, temporary.open("wb") as file:
                np.save(file, pixels)
                file.write(_checksum(pixels))
            self._remove_others()
        except OSError as error:
            log.warning(
                "cannot write the decoded images to the cache %s (%s); give a writable folder, or null for no cache "
                "(data.cache)",
                self.path.parent,
                error,
            )

    def _remove_others(self) -> None:
        for path in self.path.parent.glob(f"{self._slot}*"):  # earlier versions wrote `.images` files
            if path != self.path and path.suffix in (".npy", ".images"):
                path.unlink(missing_ok=True)


def _checksum(pixels: np.ndarray) -> bytes:
    return zlib.crc32(pixels.reshape(-1).data).to_bytes(4, "little")
