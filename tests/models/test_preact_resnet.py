"""Properties of pre-activation blocks; test_every_network has the properties of all networks."""

import torch

from convbench.models.preact_resnet import PreActBlock


def test_a_block_whose_residual_branch_is_zero_returns_its_input_unchanged() -> None:
    block = PreActBlock(4, 4, stride=1)
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_the_projection_of_a_shortcut_gets_the_input_after_norm_and_relu() -> None:
    block = PreActBlock(4, 8, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), block.downsample(block.bn1(x).relu()))
