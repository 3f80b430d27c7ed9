import math

import torch

from convbench.engine.metrics import Meter, Score

CPU = torch.device("cpu")


def logits(*predicted: int, classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def test_means_weight_batches_by_their_size() -> None:
    meter = Meter(CPU)
    meter.add(torch.tensor(1.0), logits(0, 1, 2, 3), torch.tensor([0, 1, 2, 0]))
    meter.add(torch.tensor(6.0), logits(1), torch.tensor([0]))
    assert meter.read() == Score(loss=2.0, accuracy=0.6)


def test_the_label_of_class_probabilities_is_the_most_probable_class() -> None:
    meter = Meter(CPU)
    probabilities = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.4, 0.0, 0.6, 0.0], [0.0, 0.1, 0.0, 0.9]])
    meter.add(torch.tensor(0.5), logits(0, 0, 3), probabilities)
    assert meter.read() == Score(0.5, 2 / 3)


def test_the_accuracy_is_the_exact_quotient_of_two_counts() -> None:
    meter = Meter(CPU)
    correct = 0
    for index in range(97):
        right = index % 3 == 0
        meter.add(torch.tensor(0.1), logits(1, 1, 1), torch.tensor([1, 1 if right else 0, 0]))
        correct += 1 + right
    assert meter.read().accuracy == correct / (97 * 3)


def test_read_keeps_the_sums_and_reset_clears_them() -> None:
    meter = Meter(CPU)
    meter.add(torch.tensor(3.0), logits(0), torch.tensor([1]))
    assert meter.read() == meter.read() == Score(3.0, 0.0)
    sums = meter.sums
    meter.reset()
    assert meter.sums is sums  # in place, because a CUDA graph refers to this tensor
    meter.add(torch.tensor(1.0), logits(0), torch.tensor([0]))
    assert meter.read() == Score(1.0, 1.0)


def test_losses_in_half_precision_are_summed_in_single_precision() -> None:
    meter = Meter(CPU)
    for _ in range(3):  # bfloat16 cannot represent 257
        meter.add(torch.tensor(1.0, dtype=torch.bfloat16), logits(*[0] * 257).bfloat16(), torch.zeros(257).long())
    assert meter.read() == Score(1.0, 1.0)


def test_one_nan_loss_makes_the_mean_loss_nan() -> None:
    meter = Meter(CPU)
    meter.add(torch.tensor(float("nan")), logits(0), torch.tensor([0]))
    meter.add(torch.tensor(1.0), logits(0), torch.tensor([0]))
    assert math.isnan(meter.read().loss)
    assert meter.read().accuracy == 1.0
