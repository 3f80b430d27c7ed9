"""Loss and accuracy, accumulated on the device so that the host reads them rarely."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from convbench.engine import distributed


class Score(NamedTuple):
    """Mean loss (nats per sample) and accuracy (0 to 1)."""

    loss: float
    accuracy: float


class SplitScore(NamedTuple):
    """The scores of a network on a whole split.

    Attributes:
        loss: Mean loss, in nats per sample.
        accuracy: Accuracy, from 0 to 1.
        correct: Number of correctly classified images.
        images: Number of images.
        predicted_classes: Number of classes that were predicted at least once; 1 for a network that always predicts
            the same class.
    """

    loss: float
    accuracy: float
    correct: int
    images: int
    predicted_classes: int

    @property
    def score(self) -> Score:
        """Only the loss and the accuracy."""
        return Score(self.loss, self.accuracy)


class Meter:
    """Running means of loss and accuracy over samples. `add` never waits for the device, `read` does.

    Args:
        device: The device of the losses and logits.

    Attributes:
        sums: Sum of the losses, number of correct predictions and number of samples, `(3,)`, on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, device=device)

    def reset(self) -> None:
        """Set the sums to zero, in place."""
        self.sums.zero_()

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            mean_loss: Mean loss over the batch, 0-d.
            logits: Logits, `(N, classes)`.
            labels: Labels, `(N,)`, or class probabilities, `(N, classes)`.
        """
        if labels.ndim == 2:
            labels = labels.argmax(1)
        correct = (logits.argmax(1) == labels).sum()
        self.sums += functional.pad(
            torch.stack([mean_loss.float() * len(labels), correct.float()]), (0, 1), value=len(labels)
        )

    def read(self) -> Score:
        """The means since the last reset over all processes. It waits for the device; every process must call it."""
        loss, correct, count = distributed.all_reduce_sum(self.sums).tolist()
        return Score(loss / count, correct / count)
