"""A network over a whole split, read by the host once."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.data.resident import EvalBatches
from convbench.engine import world
from convbench.engine.device import autocast
from convbench.engine.metrics import Meter, SplitScore


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
    """Cross-entropy (no label smoothing), accuracy and counts over a labelled split."""
    labels = batches.split.labels
    assert labels is not None
    meter = Meter(batches.renderer.device)
    was_predicted: Tensor | None = None
    for logits, rows in logits_of(network, batches, precision):
        wanted = labels[rows].to(logits.device)
        meter.add(functional.cross_entropy(logits, wanted), logits, wanted)
        if was_predicted is None:
            was_predicted = logits.new_zeros(logits.shape[1])
        was_predicted.index_fill_(0, logits.argmax(1), 1)
    assert was_predicted is not None  # no split is empty
    loss, correct, count = meter.totals()
    predicted_classes = int(world.added_up(was_predicted).count_nonzero())
    return SplitScore(loss / count, correct / count, round(correct), round(count), predicted_classes)
