"""Evaluation of a network on a split, with a single host synchronization."""

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
    """A context with the network in evaluation mode and without gradients; it restores the previous mode at its end."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


def logits_of(network: nn.Module, batches: EvalBatches, precision: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the logits batch by batch.

    Args:
        network: The network, on the device of the batches.
        batches: Batches of a split.
        precision: `none`, `bf16` or `fp16`.

    Yields:
        Float32 logits `(n, classes)` and the rows `(n,)` of their images in `split.images`.
    """
    context = autocast(batches.renderer.device, precision)
    with evaluating(network):
        for batch, rows, count in batches:
            with context:
                logits = network(batch)
            yield logits[:count].float(), rows


def evaluate(network: nn.Module, batches: EvalBatches, precision: str) -> SplitScore:
    """Cross-entropy (without label smoothing) and accuracy on a labelled split, over all processes."""
    labels = batches.split.labels
    assert labels is not None
    return score_of((logits, labels[rows].to(logits.device)) for logits, rows in logits_of(network, batches, precision))


def score_of(answers: Iterable[tuple[Tensor, Tensor]]) -> SplitScore:
    """Compute the scores from logits and labels. Every process must call it, with the batches of its shard.

    The host reads the loss of every image and sums them exactly, with a single rounding (`math.fsum`). So the result
    depends neither on the order of the images nor on how they are divided between processes.

    Args:
        answers: For each batch, float32 logits `(n, classes)` and labels `(n,)` on the same device.
    """
    parts = []
    for logits, labels in answers:
        predicted = logits.argmax(1)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        parts.append(torch.stack([losses, (predicted == labels).float(), predicted.float()], 1))
    own = torch.cat(parts).cpu() if parts else torch.zeros(0, 3)  # the host waits for the device here
    image_losses, is_correct, classes = torch.cat(distributed.all_gather_object(own)).T.tolist()
    correct, images = int(sum(is_correct)), len(image_losses)
    return SplitScore(math.fsum(image_losses) / images, correct / images, correct, images, len(set(classes)))
