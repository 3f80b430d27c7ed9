"""A whole training step as one launch: a CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor


class StepGraph:
    """Records what a step launches on a GPU, and from then on launches all of it at once.

    A small network keeps a GPU waiting for the next launch; a graph has none between its parts. What is recorded are
    addresses: a batch is copied to where the recorded one was, and whatever changes between steps, such as learning
    rate and temperature, must be a tensor that is written in place. The first steps run as usual, since libraries set
    themselves up in them.

    Args:
        update: a step on a batch of a fixed shape and its labels, which never waits for the device.
    """

    FIRST = 3  # steps before the one that is recorded

    def __init__(self, update: Callable[[Tensor, Tensor], None]) -> None:
        self.update = update
        self.steps = 0
        self.graph = torch.cuda.CUDAGraph()

    def __call__(self, batch: Tensor, labels: Tensor) -> None:
        """Carry out one step."""
        if self.steps < self.FIRST:
            self._aside(batch, labels)
        else:
            if self.steps == self.FIRST:
                self._record(batch, labels)
            self.batch.copy_(batch)
            self.labels.copy_(labels)
            self.graph.replay()
        self.steps += 1

    def _aside(self, batch: Tensor, labels: Tensor) -> None:
        """On a stream of its own, as gradients that the default stream has seen cannot be recorded."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.update(batch, labels)
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, batch: Tensor, labels: Tensor) -> None:
        self.batch, self.labels = batch.clone(memory_format=torch.preserve_format), labels.clone()
        with torch.cuda.graph(self.graph):  # records; nothing is computed
            self.update(self.batch, self.labels)
