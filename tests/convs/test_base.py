"""The base class of convolutions: error messages, copies, the signature, and refused layers."""

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.standard import StandardConv2d
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.errors import UserError
from tests.convs.catalogue import CLASSES


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (
            {"implementation": "fft"},
            r"weighted_sum .*'fft'; .*linear, pointwise, folded, fused or auto \(conv.implementation\)",
        ),
        ({"groups": 3}, r"in_channels 16 .*out_channels 32 .*groups 3 \(conv.groups\)"),
        ({"groups": 0}, r"weighted_sum .*groups 0; .*at least 1 \(conv.groups\)"),
        ({"kernel_size": (3, 0)}, r"weighted_sum .*kernel_size 0; .*at least 1"),
        ({"kernel_size": (3, 3, 3)}, r"weighted_sum .*kernel_size \(3, 3, 3\); .*one .*or two"),
        ({"stride": 0}, r"weighted_sum .*stride 0; .*at least 1"),
        ({"dilation": 1.5}, r"weighted_sum .*dilation 1.5; .*one .*or two"),
        ({"padding": -1}, r"weighted_sum .*padding -1; .*at least 0"),
        ({"padding": "full"}, r"weighted_sum .*padding 'full'; .*'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, r"weighted_sum .*padding 'same' .*stride \(2, 2\); .*stride 1"),
        ({"padding_mode": "mirror"}, r"weighted_sum .*'mirror'; .*zeros, reflect, replicate or circular"),
        ({"bias": "yes"}, r"weighted_sum .*bias 'yes'; .*true, false or null \(conv.bias\)"),
        ({"in_channels": 0}, r"weighted_sum .*in_channels 0; .*at least 1"),
        ({"out_channels": True}, r"weighted_sum .*out_channels True; .*at least 1"),
    ],
)
def test_the_error_for_a_wrong_argument_has_the_value_and_the_choices(arguments: dict[str, Any], facts: str) -> None:
    with pytest.raises(UserError, match=f"^{facts}$"):
        WeightedSumConv2d(**{"in_channels": 16, "out_channels": 32, "kernel_size": 3, **arguments})


def test_switching_to_an_unknown_implementation_changes_nothing() -> None:
    conv = StandardConv2d(2, 2, 3)
    with pytest.raises(UserError, match=r"standard .*'fast'; .*library, winograd or auto \(conv.implementation\)"):
        conv.use("fast")
    assert conv.implementation == "library"


@pytest.mark.parametrize("name", ["standard", "weighted_sum", "dynamic", "from_scratch"])
def test_the_representation_is_that_of_conv2d_plus_the_implementation(name: str) -> None:
    arguments: dict[str, Any] = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": False}
    ours = CLASSES[name](4, 8, 3, **arguments, padding_mode="circular").extra_repr()
    theirs = nn.Conv2d(4, 8, 3, **arguments, padding_mode="circular").extra_repr()
    assert ours.startswith(theirs + ", implementation=")


@pytest.mark.parametrize("name", CLASSES)
def test_a_copy_and_a_pickle_compute_the_same(name: str) -> None:
    conv, x = CLASSES[name](8, 8, 3, padding=1), torch.randn(1, 8, 5, 5)
    assert torch.equal(copy.deepcopy(conv)(x), conv(x))
    assert torch.equal(pickle.loads(pickle.dumps(conv))(x), conv(x))


class RestrictedConv2d(StandardConv2d):
    """A convolution with its own argument, a refused layer, and an implementation with a further restriction."""

    name = "restricted"
    implementations = StandardConv2d.implementations | {"odd": torch.nn.functional.conv2d}
    limits = {"odd": lambda conv: None if conv.kernel_size[0] % 2 else "odd needs odd kernels"}  # noqa: RUF012

    def __init__(self, *conv2d: Any, level: int = 3, implementation: str = "library", **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.level = level
        if self.stride != (1, 1):
            self._refuse("needs stride 1")


def test_the_signature_has_the_arguments_of_conv2d_followed_by_those_of_the_class_and_its_bases() -> None:
    parameters = inspect.signature(RestrictedConv2d).parameters
    assert list(parameters) == [*inspect.signature(nn.Conv2d).parameters, "level", "implementation"]
    assert (parameters["level"].default, parameters["implementation"].default) == (3, "library")


def test_a_layer_that_a_class_or_an_implementation_does_not_support_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"^restricted needs stride 1$"):
        RestrictedConv2d(2, 2, 3, 2)
    with pytest.raises(UnsupportedLayerError, match=r"^odd needs odd kernels$"):
        RestrictedConv2d(2, 2, 2, implementation="odd")
    conv = RestrictedConv2d(2, 2, 2)
    with pytest.raises(UnsupportedLayerError, match=r"^odd needs odd kernels$"):
        conv.use("odd")
    assert conv.implementation == "library"
    assert RestrictedConv2d(2, 2, 3, implementation="odd").implementation == "odd"
