"""Tests of the training step, above all that it does not synchronize with the host."""

import pytest
import torch
from hydra import compose as compose_config
from hydra import initialize_config_dir
from torch.profiler import ProfilerActivity, profile

from convbench.config.options import conf_folder, options
from convbench.config.resolvers import register_resolvers
from convbench.experiment.composition import compose
from convbench.experiment.training import build_training
from tests.conftest import TINY

HOST_READS = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero"}


def build(*overrides):
    register_resolvers()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose_config("train", [*TINY, *overrides])
    composition = compose(config)
    return build_training(config, composition, composition.source.load())


def host_reads(training, epoch=0):
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        for index, (batch, labels) in enumerate(training.train.epoch(epoch)):
            training.step(index, batch, labels)
    return {event.key: event.count for event in trace.key_averages() if event.key in HOST_READS}


@pytest.mark.parametrize("conv", options("conv"))
def test_training_steps_with_each_conv_do_not_synchronize_with_the_host(conv):
    assert host_reads(build(f"conv={conv}", "temperature.epochs=1")) == {}


@pytest.mark.parametrize("augment", ["none", "light", "standard"])
def test_training_steps_with_each_augmentation_do_not_synchronize_with_the_host(augment):
    assert host_reads(build(f"augment={augment}")) == {}


def test_a_training_step_with_adamw_reads_only_the_step_counters_on_a_cpu():
    """The fused CPU kernel reads the step counters of all parameters from host memory, without a synchronization."""
    training = build("optimizer=adamw")
    parameters = len(list(training.step.network.parameters()))
    assert host_reads(training)["aten::_local_scalar_dense"] == parameters * len(training.train)


def test_host_reads_counts_one_read_per_step(monkeypatch):
    training = build()
    add = training.step.meter.add

    def add_and_read(loss, logits, labels):
        add(loss, logits, labels)
        loss.item()

    monkeypatch.setattr(training.step.meter, "add", add_and_read)
    assert host_reads(training)["aten::_local_scalar_dense"] == len(training.train)


def test_gradients_are_none_before_each_backward_pass():
    training = build()
    step = training.step
    is_none = []
    step.network.register_forward_pre_hook(
        lambda *_: is_none.append(all(parameter.grad is None for parameter in step.network.parameters()))
    )
    for index, (batch, labels) in enumerate(training.train.epoch(0)):
        step(index, batch, labels)
    assert is_none == [True] * len(training.train)


def test_a_step_sets_the_temperature_of_every_dynamic_layer_and_the_learning_rate_of_the_optimizer():
    training = build("conv=dynamic", "temperature.epochs=1", "schedule=linear")
    step = training.step
    temperatures = [buffer for name, buffer in step.network.named_buffers() if name.endswith("temperature")]
    assert len(temperatures) == 8  # the first of the nine convolutions of a ResNet-8 is not swapped
    for index, (batch, labels) in enumerate(training.train.epoch(0)):
        step(index, batch, labels)
        expected = 30 - 29 * index / len(training.train)
        assert all(buffer.item() == pytest.approx(expected) for buffer in temperatures)
        assert step.lr == pytest.approx(0.2 * (1 - index / (2 * len(training.train))))
        assert all(group["lr"] == step.lr for group in step.optimizer.param_groups)


def test_batches_have_the_memory_format_of_the_configuration():
    for channels_last in (True, False):
        training = build(f"engine.channels_last={channels_last}")
        batch, _ = next(training.train.epoch(0))
        assert batch.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_the_auxiliary_loss_is_minimised_but_not_included_in_the_reported_loss():
    def one_step(weight):
        training = build("conv=blueprint_s", f"conv.orthonormality={weight}")
        step = training.step
        batch, labels = next(training.train.epoch(0))
        convs = [module for module in step.network.modules() if hasattr(module, "auxiliary_loss")]
        before = [conv.squeeze_weight.detach().clone() for conv in convs]
        step(0, batch, labels)
        gradients = [conv.squeeze_weight.grad for conv in convs]
        return before, gradients, step.meter.read().loss

    weights, plain, loss = one_step(0.0)
    _, penalised, same_loss = one_step(0.1)
    assert same_loss == loss
    for weight, without, with_penalty in zip(weights, plain, penalised, strict=True):
        rows = weight.flatten(1).double().requires_grad_()
        (0.1 * (rows @ rows.mT - torch.eye(len(rows))).norm()).backward()
        torch.testing.assert_close((with_penalty - without).flatten(1).double(), rows.grad, rtol=1e-3, atol=1e-5)
