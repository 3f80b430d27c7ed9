"""The training loop with any subset of the techniques."""

import pytest
import torch
from torch import nn

from convbench.benchmarks.ablation import TECHNIQUES, Loop, techniques
from convbench.data.augment import Augment
from convbench.data.shapes import Shapes

CPU = torch.device("cpu")
AUTO = "fastest implementations"


def network(has_bias: bool) -> nn.Module:
    """A convolution with a norm, and a linear classifier."""
    conv = nn.Conv2d(3, 16, 3, padding=1, bias=has_bias)
    return nn.Sequential(conv, nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def loop(*names: str) -> Loop:
    """A loop over small images."""
    shapes = Shapes(image_size=16, train=40, val=10, test=10, seed=0, mean=[0.5] * 3, std=[0.5] * 3, flip=True)
    augment = Augment(crop_padding=2, flip=True)
    return Loop(network, lambda *arguments: None, shapes.load(), augment, 10, 10, CPU, frozenset(names), seed=0)


def test_techniques_for_gpus_are_left_out_on_a_cpu() -> None:
    names = techniques(CPU, has_choice=True)
    assert names == [technique.name for technique in TECHNIQUES if "cpu" in technique.devices]
    assert not {"autocast", "CUDA graph", "tuned kernels"} & set(names)
    assert {"autocast", "CUDA graph", "tuned kernels"} <= set(techniques(torch.device("cuda"), has_choice=True))


def test_implementations_are_chosen_only_in_networks_that_have_a_choice() -> None:
    names = techniques(CPU, has_choice=True)
    assert techniques(CPU, has_choice=False) == [name for name in names if name != AUTO]


@pytest.mark.parametrize("names", [(), tuple(sorted(set(techniques(CPU, True)) - {"compile"}))], ids=["none", "all"])
def test_the_loop_trains_with_and_without_techniques(names: tuple[str, ...]) -> None:
    made = loop(*names)
    before = made.network[0].weight.detach().clone()
    made.steps(5)  # four steps are an epoch
    assert not torch.equal(made.network[0].weight, before)
    assert made.network[0].weight.isfinite().all()


def test_metrics_are_summed_on_the_device_or_read_in_every_step() -> None:
    on_device = loop("data on the device", "no host reads")
    on_device.steps(2)
    assert on_device.sums[0] > 0
    on_host = loop("data on the device")
    on_host.steps(2)
    assert on_host.sums[0] == 0
    assert on_host.loss > 0


def test_convolutions_have_no_bias_with_the_technique_for_it() -> None:
    assert loop("data on the device").network[0].bias is not None
    assert loop("data on the device", "no bias before norm").network[0].bias is None
