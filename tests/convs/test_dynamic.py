"""The attention and the temperature of the dynamic convolution."""

from typing import Any

import pytest
import torch
from torch import nn

from convbench.convs.dynamic import DynamicConv2d
from convbench.errors import UserError


def test_the_temperature_is_a_float32_buffer_that_a_checkpoint_keeps() -> None:
    conv = DynamicConv2d(4, 4, 3, temperature=30.0, dtype=torch.float64)
    assert conv.temperature.dtype == torch.float32
    assert conv.temperature.shape == ()
    conv.temperature.fill_(7.5)
    other = DynamicConv2d(4, 4, 3)
    other.load_state_dict(conv.state_dict())
    assert other.temperature.item() == 7.5
    assert "temperature" not in dict(conv.named_parameters())


@pytest.mark.usefixtures("fresh_compiler")
def test_a_change_of_the_temperature_in_place_needs_no_recompilation() -> None:
    conv, x = DynamicConv2d(4, 4, 3), torch.randn(2, 4, 5, 5)
    expected = []
    for temperature in (30.0, 2.0):
        conv.temperature.fill_(temperature)
        expected.append(conv(x).detach())
    conv.compile(fullgraph=True, backend="eager")
    conv.temperature.fill_(30.0)
    torch.testing.assert_close(conv(x), expected[0])
    with torch.compiler.set_stance("fail_on_recompile"):
        conv.temperature.fill_(2.0)
        torch.testing.assert_close(conv(x), expected[1])


def test_a_high_temperature_gives_equal_routing_weights_and_a_low_one_a_single_expert() -> None:
    torch.manual_seed(0)
    conv, x = DynamicConv2d(8, 4, 1, bias=False), torch.randn(3, 8, 6, 6)
    logits = conv.attention(x)
    weight = conv.weight.reshape(4, 4, 8)
    conv.temperature.fill_(1e6)
    torch.testing.assert_close(conv(x), torch.einsum("oi,nihw->nohw", weight.mean(0), x))
    conv.temperature.fill_(1e-6)
    selected = weight[logits.argmax(1)]  # one expert for each image
    torch.testing.assert_close(conv(x), torch.einsum("noi,nihw->nohw", selected, x))


@pytest.mark.parametrize(("in_channels", "hidden"), [(3, 4), (4, 2), (16, 5), (64, 17), (1, 1)])
def test_the_attention_has_the_published_hidden_units(in_channels: int, hidden: int) -> None:
    attention = DynamicConv2d(in_channels, 8, 3).attention
    assert attention.squeeze.weight.shape == (hidden, in_channels)
    assert attention.squeeze.bias is None
    assert attention.excite.bias.shape == (4,)


def test_every_expert_has_the_initialisation_of_conv2d() -> None:
    conv = DynamicConv2d(16, 8, 3, num_experts=2)
    assert conv.bias is not None
    assert not torch.equal(conv.weight[0], conv.weight[1])
    bound = nn.Conv2d(16, 8, 3).weight[0].numel() ** -0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.abs().max() > 0.98 * bound
    assert conv.bias.abs().max() <= bound


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"num_experts": 0}, r"dynamic .*num_experts 0; .*at least 1 \(conv.num_experts\)"),
        ({"temperature": 0}, r"dynamic .*temperature 0; .*above 0 \(conv.temperature\)"),
        ({"reduction": -0.5}, r"dynamic .*reduction -0.5; .*above 0 \(conv.reduction\)"),
    ],
)
def test_the_error_for_a_wrong_argument_has_the_value_the_range_and_the_key(
    arguments: dict[str, Any], facts: str
) -> None:
    with pytest.raises(UserError, match=facts):
        DynamicConv2d(4, 4, 3, **arguments)
