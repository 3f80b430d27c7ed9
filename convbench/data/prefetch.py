"""Images that stay in host memory, or in a file, and are prefetch ahead of the step that needs them."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

_AHEAD = 2  # batches on their way while one is trained on


def prefetch(images: Tensor, batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Take batch after batch of images to the device, ahead of use, in a thread of its own.

    For a GPU, images go through page-locked memory and over a stream of their own, so that copying and computing
    overlap; the host waits for neither.

    Args:
        images: uint8 `(N, C, H, W)` in host memory; may be a memory-mapped file.
        batches: the rows `(n,)` of each batch, on the CPU.
        device: where to.

    Yields:
        uint8 `(n, C, H, W)` on the device.
    """
    fetch: Any = _GpuFetch(images, device) if device.type == "cuda" else _CpuFetch(images)
    waiting: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:
        try:
            for part in batches:
                waiting.append(pool.submit(fetch.begin, part))
                if len(waiting) > _AHEAD:
                    yield fetch.end(waiting.pop(0).result())
            while waiting:
                yield fetch.end(waiting.pop(0).result())
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
    """Page-locked buffers in turns, each free again when its copy is done."""

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images = images
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.buffers: list[tuple[Tensor, torch.cuda.Event]] = []
        self.turn = 0

    def begin(self, rows: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        if len(self.buffers) <= _AHEAD + 1:
            shape = (len(rows), *self.images.shape[1:])
            self.buffers.append((torch.empty(shape, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()))
        buffer, copied = self.buffers[self.turn % len(self.buffers)]
        self.turn += 1
        copied.synchronize()  # in this thread, which waits for its own copies only
        part = buffer[: len(rows)]
        torch.index_select(self.images, 0, rows, out=part)
        with torch.cuda.stream(self.stream):
            batch = part.to(self.device, non_blocking=True)
            copied.record(self.stream)
        return batch, copied

    def end(self, begun: tuple[Tensor, torch.cuda.Event]) -> Tensor:
        batch, copied = begun
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        batch.record_stream(current)
        return batch
