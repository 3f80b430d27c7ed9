"""The multiply-accumulate operations of every convolution, compared with formulas derived by hand."""

import pytest
import torch
from hydra.utils import get_class

from convbench.models.counting import summarise
from tests.convs.catalogue import YAMLS

C, OUT, T = 16, 32, 9  # input channels, output channels, taps of a 3 x 3 kernel
HIDDEN = 16  # hidden units of the attention of odconv


def expected_macs(name: str, pixels: int) -> int:
    """Return the operations for one 8 x 8 image, where `pixels` is H_out * W_out, and C, OUT, T describe the layer."""
    standard = pixels * C * OUT * T
    mixing = 4 * C * OUT * T + 4 * OUT  # kernels and biases of four experts
    return {
        "standard": standard,
        "from_scratch": standard,
        "weight_standardised": standard,
        "grouped": standard // 4,
        "weighted_sum": 64 * C * OUT + pixels * OUT * T,
        "blueprint_s": 64 * (C * 4 + 4 * OUT) + pixels * OUT * T,
        "depthwise_separable": pixels * (C * T + C * OUT),
        "large_kernel": pixels * (C * 49 + C * OUT),
        "ghost": pixels * (C * 16 * T + 16 * T),
        "partial": pixels * (4 * 4 * T + C * OUT),
        "coordconv": pixels * (C + 2) * OUT * T,
        "pyramidal": pixels * (C * 16 * T + C // 4 * 16 * 25),
        "dynamic": standard + mixing + C * 5 + 5 * 4,
        "condconv": standard + mixing + C * 4,
        "odconv": standard + mixing + C * HIDDEN + HIDDEN * (4 + T + C + OUT),
        "involution": pixels * (C * 4 + 4 * T + C * T),
        "deformable": standard + pixels * (27 * C * T + 4 * C * T),
    }[name]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", sorted(YAMLS))
def test_the_macs_of_a_convolution_are_those_of_its_formula(name: str, stride: int) -> None:
    if stride == 2 and name == "partial":
        pytest.skip("partial refuses a stride")
    keys = {key: value for key, value in YAMLS[name].items() if key not in ("_target_", "skip", "unsupported")}
    arguments = {key: value for key, value in keys.items() if value is not None}
    out = C if name == "involution" else OUT
    conv = get_class(YAMLS[name]["_target_"])(C, out, 3, stride=stride, padding=1, **arguments)
    summary = summarise(conv, C, 8)
    assert summary.macs == expected_macs(name, (8 // stride) ** 2)
    assert summary.not_counted == {}
    assert torch.tensor([layer.macs for layer in summary.layers]).sum() == summary.macs
