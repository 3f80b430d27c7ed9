"""Prefetching of batches: images in host memory or in a file are copied to the device before they are needed."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

_AHEAD = 2  # batches that are fetched in advance


def prefetch(images: Tensor, batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Copy batches of images to the device in advance, in a separate thread.

    For a GPU, the images are copied through page-locked memory and on a separate CUDA stream, so that copies and
    computation overlap. The training thread does not wait for them.

    Args:
        images: uint8 `(N, C, H, W)` in host memory; it may be a memory-mapped file.
        batches: rows of each batch, int64 `(n,)` on the CPU.
        device: destination device.

    Yields:
        uint8 `(n, C, H, W)` on the device.
    """
    fetch: Any = _GpuFetch(images, device) if device.type == "cuda" else _CpuFetch(images)
    pending: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:
        try:
            for rows in batches:
                pending.append(pool.submit(fetch.begin, rows))
                if len(pending) > _AHEAD:
                    yield fetch.end(pending.pop(0).result())
            while pending:
                yield fetch.end(pending.pop(0).result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _CpuFetch:
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def begin(self, rows: Tensor) -> Tensor:
        return self.images.index_select(0, rows)

    def end(self, batch: Tensor) -> Tensor:
        return batch


class _GpuFetch:
    """Copies through a ring of page-locked buffers; a buffer is used again after its copy has finished."""

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images = images
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.buffers: list[tuple[Tensor, torch.cuda.Event]] = []
        self.next_buffer = 0

    def begin(self, rows: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        if len(self.buffers) <= _AHEAD + 1:
            shape = (len(rows), *self.images.shape[1:])
            self.buffers.append((torch.empty(shape, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()))
        buffer, copied = self.buffers[self.next_buffer % len(self.buffers)]
        self.next_buffer += 1
        copied.synchronize()  # blocks only the prefetch thread
        pinned = buffer[: len(rows)]
        torch.index_select(self.images, 0, rows, out=pinned)
        with torch.cuda.stream(self.stream):
            batch = pinned.to(self.device, non_blocking=True)
            copied.record(self.stream)
        return batch, copied

    def end(self, started: tuple[Tensor, torch.cuda.Event]) -> Tensor:
        batch, copied = started
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        batch.record_stream(current)
        return batch
