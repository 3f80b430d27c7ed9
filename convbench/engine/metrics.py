"""Loss and accuracy, added up on the device and read by the host as seldom as it can be."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from convbench.engine import distributed


class Score(NamedTuple):
    """Mean loss (nats a sample) and accuracy (0 to 1)."""

    loss: float
    accuracy: float


class SplitScore(NamedTuple):
    """What a network comes to on a whole split.

    Attributes:
        loss, accuracy: as in `Score`.
        correct, images: how many images were classified correctly, and how many there are.
        predicted_classes: how many different classes were predicted at least once; 1 for a network that always gives
            the same answer.
    """

    loss: float
    accuracy: float
    correct: int
    images: int
    predicted_classes: int

    @property
    def score(self) -> Score:
        """Loss and accuracy alone."""
        return Score(self.loss, self.accuracy)


class Meter:
    """Sums over samples; adding waits for nothing, `read` is the one place where the host waits.

    Args:
        device: of what is added.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, device=device)  # loss, correct, samples

    def reset(self) -> None:
        """Start a new mean."""
        self.sums.zero_()

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss `()`, logits `(N, classes)`, labels `(N,)` or probabilities `(N, classes)`."""
        if labels.ndim == 2:
            labels = labels.argmax(1)
        correct = (logits.argmax(1) == labels).sum()
        self.sums += functional.pad(
            torch.stack([mean_loss.float() * len(labels), correct.float()]), (0, 1), value=len(labels)
        )

    def read(self) -> Score:
        """Means since the last reset, over all processes; waits for the device."""
        loss, correct, count = distributed.all_reduce_sum(self.sums).tolist()
        return Score(loss / count, correct / count)
