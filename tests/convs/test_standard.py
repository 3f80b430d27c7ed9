"""The standard and the from-scratch convolution have the parameters of `nn.Conv2d`."""

import pytest
import torch
from torch import nn

from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.standard import StandardConv2d

both = pytest.mark.parametrize("conv_class", [StandardConv2d, FromScratchConv2d])


@both
@pytest.mark.parametrize("bias", [True, False])
def test_initial_values_are_those_of_conv2d(conv_class: type[nn.Module], bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(4, 6, (3, 1), groups=2, bias=bias)
    torch.manual_seed(0)
    ours = conv_class(4, 6, (3, 1), groups=2, bias=bias)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@both
def test_it_and_conv2d_load_the_weights_of_each_other(conv_class: type[nn.Module]) -> None:
    x, theirs, ours = torch.randn(2, 4, 6, 7), nn.Conv2d(4, 6, 3, padding=1), conv_class(4, 6, 3, padding=1)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    other = nn.Conv2d(4, 6, 3, padding=1)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other(x), theirs(x))
