"""A network over a whole split, read by the host once."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.data.resident import EvalBatches
from convbench.engine import distributed
from convbench.engine.device import autocast
from convbench.engine.metrics import SplitScore


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode before it comes back."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


def logits_of(network: nn.Module, batches: EvalBatches, precision: str) -> Iterator[tuple[Tensor, Tensor]]:
    """For each batch float32 logits `(n, classes)` and the rows `(n,)` of the split's images they belong to."""
    context = autocast(batches.renderer.device, precision)
    with evaluating(network):
        for batch, rows, count in batches:
            with context:
                logits = network(batch)
            yield logits[:count].float(), rows


def evaluate(network: nn.Module, batches: EvalBatches, precision: str) -> SplitScore:
    """Cross-entropy (no label smoothing) and accuracy over a labelled split, of all processes together."""
    labels = batches.split.labels
    assert labels is not None
    return score_of((logits, labels[rows].to(logits.device)) for logits, rows in logits_of(network, batches, precision))


def score_of(answers: Iterable[tuple[Tensor, Tensor]]) -> SplitScore:
    """The score of a network by its answers; with several processes each gives its part, and all have to call.

    The loss of each image is read, and their sum is rounded once, at its end. So it does not depend on the order of
    the images, nor on how they were distributed over processes.

    Args:
        answers: for each batch float32 logits `(n, classes)` and labels `(n,)` on the same device.
    """
    parts = []
    for logits, labels in answers:
        predicted = logits.argmax(1)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        parts.append(torch.stack([losses, (predicted == labels).float(), predicted.float()], 1))
    own = torch.cat(parts).cpu() if parts else torch.zeros(0, 3)  # here the host waits
    loss_of_each, is_correct, classes = torch.cat(distributed.all_gather_object(own)).T.tolist()
    correct, images = int(sum(is_correct)), len(loss_of_each)
    return SplitScore(math.fsum(loss_of_each) / images, correct / images, correct, images, len(set(classes)))
