"""Decoded images on disk, so that a second start reads one file instead of thousands.

A cache file is one line of JSON (what it was made from, shape, checksum) and then the bytes of the tensor.
"""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convbench.files import to_json

_HEADER_BYTES = 1024

log = logging.getLogger("convbench")


class TensorCache:
    """One uint8 tensor in one file of a cache folder.

    Args:
        folder: cache folder; made when something is stored.
        slot: what the tensor is of, for example a folder and an image size. A slot holds one tensor: storing replaces
            the one before, so caches of changed folders do not pile up.
        key: all that the tensor was made from; another key is a miss.
    """

    def __init__(self, folder: Path, slot: str, key: str) -> None:
        self.path = folder / f"{hashlib.sha256(slot.encode()).hexdigest()[:16]}.images"
        self.key = hashlib.sha256(key.encode()).hexdigest()

    def read(self) -> Tensor | None:
        """The stored tensor, or None if there is none of this key, or its file is damaged."""
        try:
            with self.path.open("rb") as file:
                header = json.loads(file.readline(4096))
                if header["key"] != self.key:
                    return None
                images = torch.empty(header["shape"], dtype=torch.uint8)
                pixels = images.numpy().reshape(-1)
                whole = file.readinto(pixels.data) == pixels.size and not file.read(1)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            log.warning("ignoring the unreadable cache %s (%s)", self.path, error)
            return None
        if not whole or zlib.crc32(pixels.data) != header["checksum"]:
            log.warning("ignoring the damaged cache %s", self.path)
            return None
        return images

    def map(self) -> Tensor | None:
        """The stored tensor as a mapped file, of which memory holds no more than is looked at; None as for `read`.

        Its checksum is not looked at, which would read all of it.
        """
        try:
            with self.path.open("rb") as file:
                header = json.loads(file.readline(4096))
                start = file.tell()
            if header["key"] != self.key:
                return None
            # copy on write: what is written to the tensor, which nobody does, would not reach the file
            pixels = np.memmap(self.path, np.uint8, "c", start, tuple(header["shape"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("ignoring the unreadable cache %s (%s)", self.path, error)
            return None
        return torch.from_numpy(pixels)

    def fill(self, shape: Sequence[int], decode: Callable[[np.ndarray], object]) -> None:
        """Have a tensor of this shape decoded straight into the file, for one that memory may not hold.

        Raises:
            OSError: if the folder cannot be written, or the disk is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".part", delete=False) as file:
            unfinished = Path(file.name)
        try:
            with unfinished.open("wb") as file:
                # The checksum comes last, into the room that is left for it.
                file.write(self._header(shape, 0))
                start = file.tell()
                file.truncate(start + int(np.prod(shape)))
            pixels = np.memmap(unfinished, np.uint8, "r+", start, tuple(shape))
            decode(pixels)
            pixels.flush()
            checksum = zlib.crc32(pixels.reshape(-1).data)
            with unfinished.open("r+b") as file:
                file.write(self._header(shape, checksum))
            os.replace(unfinished, self.path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _header(self, shape: Sequence[int], checksum: int) -> bytes:
        line = to_json({"key": self.key, "shape": list(shape), "checksum": checksum})
        return line.ljust(_HEADER_BYTES - 1).encode() + b"\n"

    def write(self, images: Tensor) -> None:
        """Store a tensor, at once or not at all; a folder that cannot be written is a warning.

        Args:
            images: uint8, of any shape.
        """
        pixels = np.ascontiguousarray(images.numpy()).reshape(-1)
        unfinished = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".part", delete=False) as file:
                unfinished = file.name
                file.write(self._header(images.shape, zlib.crc32(pixels.data)))
                file.write(pixels.data)
            os.replace(unfinished, self.path)
        except OSError as error:
            if unfinished is not None:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished)
            log.warning(
                "cannot write the cache of decoded images to %s (%s); set data.cache to a folder of yours, or to null",
                self.path.parent,
                error,
            )
