"""A network over a whole split, read by the host once."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.data.resident import EvalBatches
from convbench.engine.device import autocast
from convbench.engine.metrics import Meter, Score


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


def evaluate(network: nn.Module, batches: EvalBatches, precision: str) -> Score:
    """Cross-entropy (no label smoothing) and accuracy over a labelled split."""
    labels = batches.split.labels
    assert labels is not None
    meter = Meter(batches.renderer.device)
    for logits, rows in logits_of(network, batches, precision):
        wanted = labels[rows].to(logits.device)
        meter.add(functional.cross_entropy(logits, wanted), logits, wanted)
    return meter.read()
