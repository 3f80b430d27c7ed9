import pytest
import torch
from torch import nn

from convbench.data.augment import Augment, Renderer
from convbench.data.resident import EvalBatches
from convbench.data.types import Split
from convbench.engine.scoring import evaluate, evaluating, logits_of

CPU = torch.device("cpu")
COUNT, CLASSES = 23, 5


def split(indices: torch.Tensor) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (COUNT, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, CLASSES, (COUNT,), generator=generator), indices, [""] * COUNT)


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, CLASSES))
    made(torch.randn(8, 3, 4, 4))  # changes the running statistics from their initial values
    return made


def batches(data: Split, batch_size: int) -> EvalBatches:
    return EvalBatches(data, batch_size, Renderer((0.5,) * 3, (0.2,) * 3, Augment(), channels_last=True, device=CPU))


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
@pytest.mark.parametrize("indices", [torch.arange(COUNT), torch.arange(2, COUNT, 3).flip(0)], ids=["all", "some"])
def test_the_score_agrees_with_a_computation_on_all_images_at_once(indices: torch.Tensor, batch_size: int) -> None:
    data, net = split(indices), network()
    score = evaluate(net, batches(data, batch_size), precision="none")
    exact, labels = net.double().eval(), data.labels[indices]
    with torch.no_grad():
        logits = exact((data.images[indices].double() / 255 - 0.5) / 0.2)
    loss = (logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]).mean().item()
    assert score.loss == pytest.approx(loss, rel=1e-5)
    correct = (logits.argmax(1) == labels).sum().item()
    assert (score.correct, score.images, score.accuracy) == (correct, len(labels), correct / len(labels))
    assert score.predicted_classes == len(logits.argmax(1).unique())


def test_an_evaluation_changes_neither_weights_nor_running_statistics() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    evaluate(net, batches(split(torch.arange(COUNT)), 5), precision="none")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_restores_the_training_mode(training: bool) -> None:
    net = network().train(training)
    evaluate(net, batches(split(torch.arange(COUNT)), 5), precision="none")
    assert all(module.training == training for module in net.modules())
    assert torch.is_grad_enabled()


def test_evaluating_restores_the_training_mode_after_an_error() -> None:
    def fail() -> None:
        assert not net.training
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError

    net = network().train()
    with pytest.raises(ZeroDivisionError), evaluating(net):
        fail()
    assert net.training
    assert torch.is_grad_enabled()


def test_logits_of_yields_the_rows_and_omits_the_padding_of_the_last_batch() -> None:
    indices = torch.arange(COUNT).roll(4)
    got = list(logits_of(network(), batches(split(indices), 5), precision="none"))
    assert [len(logits) for logits, _ in got] == [5, 5, 5, 5, 3]
    assert torch.cat([rows for _, rows in got]).tolist() == indices.tolist()
    assert not any(logits.requires_grad for logits, _ in got)


def test_under_autocast_the_logits_are_computed_in_bf16_and_returned_as_float32() -> None:
    net, data = network(), batches(split(torch.arange(COUNT)), 23)
    ((rounded, _),) = logits_of(net, data, precision="bf16")
    ((exact, _),) = logits_of(net, data, precision="none")
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.1)
    assert not torch.equal(rounded, exact)
    assert torch.equal(rounded, rounded.bfloat16().float())
