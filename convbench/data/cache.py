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
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

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

    def write(self, images: Tensor) -> None:
        """Store a tensor, at once or not at all; a folder that cannot be written is a warning.

        Args:
            images: uint8, of any shape.
        """
        pixels = np.ascontiguousarray(images.numpy()).reshape(-1)
        header = {"key": self.key, "shape": list(images.shape), "checksum": zlib.crc32(pixels.data)}
        unfinished = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".part", delete=False) as file:
                unfinished = file.name
                file.write(json.dumps(header).encode() + b"\n")
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
