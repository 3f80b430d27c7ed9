"""What is particular to networks whose blocks begin with norm and ReLU; the rest is in test_every_network."""

import torch

from convbench.models.preact_resnet import PreActBlock


def test_a_block_that_adds_nothing_hands_its_input_on_untouched() -> None:
    block = PreActBlock(4, 4, stride=1)
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_a_shortcut_that_changes_the_shape_sees_the_activated_input() -> None:
    block = PreActBlock(4, 8, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), block.downsample(block.bn1(x).relu()))
