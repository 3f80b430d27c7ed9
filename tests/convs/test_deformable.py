"""The deformable convolution with offsets that are not zero, as they are at initialisation."""

from typing import Any

import pytest
import torch
from torch import nn

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.deformable import DeformableConv2d
from tests.convs import references
from tests.convs.test_contract import error, gradients


def with_random_offsets(dtype: torch.dtype, **layer: Any) -> DeformableConv2d:
    """Create a layer with offsets of up to a few pixels, which also reach beyond the border."""
    torch.manual_seed(0)
    conv = DeformableConv2d(
        **{"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, **layer}, dtype=dtype
    )
    nn.init.normal_(conv.offset_weight, std=0.3)
    nn.init.normal_(conv.offset_bias, std=0.7)
    return conv


@pytest.mark.parametrize(
    "layer",
    [
        {},
        {"stride": 2, "offset_groups": 2},
        {"dilation": 2, "groups": 2},
        {"padding_mode": "reflect", "bias": False},
        {"kernel_size": (1, 3), "padding": (0, 1), "offset_groups": 4},
    ],
)
@pytest.mark.parametrize("implementation", DeformableConv2d.implementations)
# The positions are computed in float32, too, so the second limit is larger than in the contract.
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_output_and_gradients_with_offsets_equal_the_plain_formula(
    layer: dict[str, Any], implementation: str, dtype: torch.dtype, limit: float
) -> None:
    conv = with_random_offsets(dtype, **layer, implementation=implementation)
    x = torch.randn(2, 4, 7, 6, dtype=dtype, requires_grad=True)
    grads = gradients(y := conv(x), {"x": x, **dict(conv.named_parameters())})
    values = {key: value.detach().double().requires_grad_() for key, value in conv.named_parameters()}
    exact = x.detach().double().requires_grad_()
    wanted_grads = gradients(wanted := references.deformable(conv, exact, values), {"x": exact, **values})
    assert error(y.detach(), wanted) <= limit
    assert max(error(grads[key], wanted_grads[key]) for key in grads) <= limit


def test_initial_outputs_are_half_those_of_the_standard_convolution() -> None:
    conv, x = DeformableConv2d(4, 6, 3, padding=1, bias=False), torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(conv(x), 0.5 * torch.nn.functional.conv2d(x, conv.weight, padding=1))


def test_an_offset_of_a_whole_pixel_shifts_the_image() -> None:
    conv = DeformableConv2d(2, 3, 1, bias=False)
    conv.offset_bias.data = torch.tensor([0.0, 1.0, 100.0])  # one pixel to the right; the sigmoid gives a mask of 1
    x = torch.randn(1, 2, 4, 5)
    shifted = torch.nn.functional.pad(x, (0, 1))[..., 1:]
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(shifted, conv.weight))


def test_channels_that_offset_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"deformable .*4 offset groups \(conv.offset_groups\)"):
        DeformableConv2d(6, 8, 3, offset_groups=4)
