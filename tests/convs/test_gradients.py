"""Every parameter of every convolution gets a gradient, also for extreme values of the arguments."""

from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from tests.convs.catalogue import CLASSES

EXTREME_ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("blueprint_s", {"ratio": 1.0}),
    ("condconv", {"num_experts": 1}),
    ("coordconv", {"radius": True}),
    ("deformable", {"offset_groups": 8}),
    ("dynamic", {"num_experts": 1}),
    ("dynamic", {"reduction": 0.01}),
    ("ghost", {"ratio": 8}),
    ("ghost", {"ratio": 3, "cheap_kernel": 1}),
    ("grouped", {"cardinality": 1}),
    ("grouped", {"cardinality": 8}),
    ("involution", {"reduction": 1}),
    ("involution", {"reduction": 100, "group_channels": 1}),
    ("large_kernel", {"large_kernel": 3}),
    ("odconv", {"num_experts": 1}),
    ("odconv", {"least_hidden": 1}),
    ("partial", {"ratio": 1}),
    ("partial", {"ratio": 8}),
    ("pyramidal", {"level_groups": [1]}),
    ("weight_standardised", {"scaled": False}),
]
# (C_in, C_out, kernel size), and the rest of the geometry.
LAYERS: list[tuple[tuple[int, int, int], dict[str, Any]]] = [
    ((8, 8, 3), {"padding": 1}),
    ((8, 8, 1), {}),
    ((8, 8, 3), {"padding": 1, "groups": 8}),
    ((1, 8, 3), {"padding": 1}),
    ((3, 8, 3), {"padding": 1}),
    ((2, 8, 1), {}),
    ((8, 1, 3), {"padding": 1}),
]


@pytest.mark.parametrize(("name", "arguments"), [*((name, {}) for name in CLASSES), *EXTREME_ARGUMENTS])
def test_every_parameter_gets_a_gradient(name: str, arguments: dict[str, Any]) -> None:
    supported = 0
    for channels, geometry in LAYERS:
        always_without: set[str] | None = None
        for seed in range(5):  # for one seed, a hidden unit may be zero for all images because of the ReLU
            torch.manual_seed(seed)
            try:
                conv = CLASSES[name](
                    *channels, **geometry, **arguments, implementation=CLASSES[name].reference_implementation
                )
            except UnsupportedLayerError:
                break
            supported += 1
            conv(torch.randn(4, channels[0], 7, 7)).square().sum().backward()
            without = {
                key for key, value in conv.named_parameters() if value.grad is None or value.grad.abs().max() < 1e-6
            }
            always_without = without if always_without is None else always_without & without
        assert not always_without, (channels, geometry)
    assert supported
