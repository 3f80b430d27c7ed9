"""Every trainable number of every convolution learns, also with the arguments at their ends."""

from typing import Any

import pytest
import torch

from convbench.convs.base import UnsupportedLayerError
from tests.convs.catalogue import CLASSES

AT_THEIR_ENDS: list[tuple[str, dict[str, Any]]] = [
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
# C_in, C_out, kernel, and the rest of the geometry.
LAYERS: list[tuple[tuple[int, int, int], dict[str, Any]]] = [
    ((8, 8, 3), {"padding": 1}),
    ((8, 8, 1), {}),
    ((8, 8, 3), {"padding": 1, "groups": 8}),
    ((1, 8, 3), {"padding": 1}),
    ((3, 8, 3), {"padding": 1}),
    ((2, 8, 1), {}),
    ((8, 1, 3), {"padding": 1}),
]


@pytest.mark.parametrize(("name", "arguments"), [*((name, {}) for name in CLASSES), *AT_THEIR_ENDS])
def test_every_parameter_gets_a_gradient(name: str, arguments: dict[str, Any]) -> None:
    taken = 0
    for channels, geometry in LAYERS:
        still: set[str] | None = None
        for seed in range(5):  # a hidden unit may be off for all images of one draw
            torch.manual_seed(seed)
            try:
                conv = CLASSES[name](
                    *channels, **geometry, **arguments, implementation=CLASSES[name].reference_implementation
                )
            except UnsupportedLayerError:
                break
            taken += 1
            conv(torch.randn(4, channels[0], 7, 7)).square().sum().backward()
            without = {
                key for key, value in conv.named_parameters() if value.grad is None or value.grad.abs().max() < 1e-6
            }
            still = without if still is None else still & without
        assert not still, (channels, geometry)
    assert taken
