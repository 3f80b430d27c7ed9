"""A training step as a CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor


class StepGraph:
    """Captures a training step as a CUDA graph and replays it with a single launch.

    With a small network, the time between kernel launches dominates a step; the replay of a graph removes it. A graph
    refers to fixed memory addresses. So each batch is copied into the captured batch, and every value that changes
    between steps, such as the learning rate and the temperature, must be a tensor that is updated in place. The first
    `FIRST` steps run without a graph, because libraries initialise themselves in them.

    Args:
        update: A training step on a batch of a fixed shape and its labels. It must not synchronize with the device.
    """

    FIRST = 3  # the number of steps before the capture

    def __init__(self, update: Callable[[Tensor, Tensor], None]) -> None:
        self.update = update
        self.steps = 0
        self.graph = torch.cuda.CUDAGraph()

    def __call__(self, batch: Tensor, labels: Tensor) -> None:
        """Carry out one step."""
        if self.steps < self.FIRST:
            self._warm_up(batch, labels)
        else:
            if self.steps == self.FIRST:
                self._capture(batch, labels)
            self.batch.copy_(batch)
            self.labels.copy_(labels)
            self.graph.replay()
        self.steps += 1

    def _warm_up(self, batch: Tensor, labels: Tensor) -> None:
        """Carry out a step on a side stream: gradients created on the default stream cannot be captured."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.update(batch, labels)
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self, batch: Tensor, labels: Tensor) -> None:
        """Capture a step; a capture does not compute anything."""
        self.batch, self.labels = batch.clone(memory_format=torch.preserve_format), labels.clone()
        with torch.cuda.graph(self.graph):
            self.update(self.batch, self.labels)
