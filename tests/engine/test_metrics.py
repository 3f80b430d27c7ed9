import pytest
import torch

from convbench.engine.metrics import Meter, Score

CPU = torch.device("cpu")


def logits(*predicted: int, classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def test_means_are_over_samples_and_not_over_batches_of_different_size() -> None:
    meter = Meter(CPU)
    meter.add(torch.tensor(1.0), logits(0, 1, 2, 3), torch.tensor([0, 1, 2, 0]))
    meter.add(torch.tensor(6.0), logits(1), torch.tensor([0]))
    assert meter.read() == Score(loss=2.0, accuracy=0.6)


def test_probability_labels_count_as_their_strongest_class() -> None:
    meter = Meter(CPU)
    shares = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.4, 0.0, 0.6, 0.0], [0.0, 0.1, 0.0, 0.9]])
    meter.add(torch.tensor(0.5), logits(0, 0, 3), shares)
    assert meter.read() == Score(0.5, 2 / 3)


def test_accuracies_are_exact_quotients() -> None:
    meter = Meter(CPU)
    correct = 0
    for index in range(97):
        right = index % 3 == 0
        meter.add(torch.tensor(0.1), logits(1, 1, 1), torch.tensor([1, 1 if right else 0, 0]))
        correct += 1 + right
    assert meter.read().accuracy == correct / (97 * 3)  # to the last bit


def test_reading_changes_nothing_and_reset_starts_anew() -> None:
    meter = Meter(CPU)
    meter.add(torch.tensor(3.0), logits(0), torch.tensor([1]))
    assert meter.read() == meter.read() == Score(3.0, 0.0)
    sums = meter.sums
    meter.reset()
    assert meter.sums is sums  # a compiled step may hold on to it
    meter.add(torch.tensor(1.0), logits(0), torch.tensor([0]))
    assert meter.read() == Score(1.0, 1.0)


def test_half_precision_losses_add_up_in_single_precision() -> None:
    meter = Meter(CPU)
    for _ in range(3):  # bfloat16 has no 257
        meter.add(torch.tensor(1.0, dtype=torch.bfloat16), logits(*[0] * 257).bfloat16(), torch.zeros(257).long())
    assert meter.read() == Score(1.0, 1.0)


def test_a_loss_that_is_no_number_stays_visible() -> None:
    meter = Meter(CPU)
    meter.add(torch.tensor(float("nan")), logits(0), torch.tensor([0]))
    meter.add(torch.tensor(1.0), logits(0), torch.tensor([0]))
    assert meter.read().loss != pytest.approx(1.0)
    assert meter.read().accuracy == 1.0
