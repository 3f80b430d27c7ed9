"""The cardinality of the grouped convolution."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.grouped import GroupedConv2d
from convbench.convs.standard import StandardConv2d
from convbench.errors import UserError
from tests.convs.macs import macs


def test_it_equals_a_conv2d_with_groups_and_has_cardinality_times_fewer_operations() -> None:
    theirs = nn.Conv2d(16, 32, 3, padding=1, groups=4)
    ours = GroupedConv2d(16, 32, 3, padding=1, cardinality=4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 16, 5, 5)
    assert torch.equal(ours(x), theirs(x))
    assert macs(ours) * 4 == macs(StandardConv2d(16, 32, 3, padding=1))


def test_a_layer_with_groups_is_split_further() -> None:
    conv = GroupedConv2d(16, 32, 3, groups=2, cardinality=4)
    assert conv.groups == 8
    assert conv.weight.shape == (32, 2, 3, 3)
    assert "groups=8" in repr(conv)


def test_channels_that_the_groups_do_not_divide_and_a_wrong_cardinality_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"grouped .*4 groups \(conv.cardinality\)"):
        GroupedConv2d(3, 16, 3)
    with pytest.raises(UserError, match=r"grouped .*cardinality 0; .*at least 1 \(conv.cardinality\)"):
        GroupedConv2d(4, 4, 3, cardinality=0)


def test_few_channels_in_a_group_do_not_corrupt_the_memory_of_the_process() -> None:
    train = """
import torch
from convbench.convs.grouped import GroupedConv2d

for _ in range(30):
    conv = GroupedConv2d(16, 32, 1, stride=2, implementation="split").to(memory_format=torch.channels_last)
    x = torch.randn(4, 16, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
    conv(x).sum().backward()
"""
    assert subprocess.run([sys.executable, "-c", train], check=False).returncode == 0
