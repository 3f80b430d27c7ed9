"""What a wrong argument is told, and what all convs share beside the contract."""

import copy
import inspect
import pickle
import re
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
    ("arguments", "message"),
    [
        (
            {"implementation": "fft"},
            "weighted_sum has no implementation 'fft'; "
            "choose linear, pointwise, folded, fused or auto (conv.implementation)",
        ),
        ({"groups": 3}, "in_channels 16 and out_channels 32 must both be divisible by groups 3 (conv.groups)"),
        ({"groups": 0}, "weighted_sum got groups 0; choose a whole number of at least 1 (conv.groups)"),
        ({"kernel_size": (3, 0)}, "weighted_sum got kernel_size 0; choose a whole number of at least 1"),
        ({"kernel_size": (3, 3, 3)}, "weighted_sum got kernel_size (3, 3, 3); choose one whole number or two"),
        ({"stride": 0}, "weighted_sum got stride 0; choose a whole number of at least 1"),
        ({"dilation": 1.5}, "weighted_sum got dilation 1.5; choose one whole number or two"),
        ({"padding": -1}, "weighted_sum got padding -1; choose a whole number of at least 0"),
        ({"padding": "full"}, "weighted_sum got padding 'full'; choose whole numbers, 'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, "weighted_sum got padding 'same' with stride (2, 2); 'same' needs stride 1"),
        (
            {"padding_mode": "mirror"},
            "weighted_sum got padding_mode 'mirror'; choose zeros, reflect, replicate or circular",
        ),
        ({"bias": "yes"}, "weighted_sum got bias 'yes'; choose true, false or null (conv.bias)"),
        ({"in_channels": 0}, "weighted_sum got in_channels 0; choose a whole number of at least 1"),
        ({"out_channels": True}, "weighted_sum got out_channels True; choose a whole number of at least 1"),
    ],
)
def test_a_wrong_argument_is_told_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        WeightedSumConv2d(**{"in_channels": 16, "out_channels": 32, "kernel_size": 3, **arguments})


def test_switching_to_an_unknown_implementation_changes_nothing() -> None:
    conv = StandardConv2d(2, 2, 3)
    with pytest.raises(
        UserError,
        match=r"standard has no implementation 'fast'; choose library, winograd or auto",
    ):
        conv.use("fast")
    assert conv.implementation == "library"


@pytest.mark.parametrize("name", ["standard", "weighted_sum", "dynamic", "from_scratch"])
def test_the_representation_is_that_of_conv2d_and_names_the_implementation(name: str) -> None:
    arguments: dict[str, Any] = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": False}
    ours = CLASSES[name](4, 8, 3, **arguments, padding_mode="circular").extra_repr()
    theirs = nn.Conv2d(4, 8, 3, **arguments, padding_mode="circular").extra_repr()
    assert ours.startswith(theirs + ", implementation=")


@pytest.mark.parametrize("name", CLASSES)
def test_a_copy_and_a_pickle_compute_the_same(name: str) -> None:
    conv, x = CLASSES[name](8, 8, 3, padding=1), torch.randn(1, 8, 5, 5)
    assert torch.equal(copy.deepcopy(conv)(x), conv(x))
    assert torch.equal(pickle.loads(pickle.dumps(conv))(x), conv(x))


class PickyConv2d(StandardConv2d):
    """A conv with an argument of its own, a layer that it refuses, and an implementation that takes fewer still."""

    name = "picky"
    implementations = StandardConv2d.implementations | {"odd": torch.nn.functional.conv2d}
    limits = {"odd": lambda conv: None if conv.kernel_size[0] % 2 else "odd takes odd kernels only"}  # noqa: RUF012

    def __init__(self, *conv2d: Any, patience: int = 3, implementation: str = "library", **geometry: Any) -> None:
        super().__init__(*conv2d, implementation=implementation, **geometry)
        self.patience = patience
        if self.stride != (1, 1):
            self._refuse("needs stride 1")


def test_the_signature_shows_conv2ds_arguments_and_then_those_of_the_conv_and_its_bases() -> None:
    shown = inspect.signature(PickyConv2d).parameters
    assert list(shown) == [*inspect.signature(nn.Conv2d).parameters, "patience", "implementation"]
    assert (shown["patience"].default, shown["implementation"].default) == (3, "library")


def test_a_layer_that_a_conv_or_an_implementation_cannot_take_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"^picky needs stride 1$"):
        PickyConv2d(2, 2, 3, 2)
    with pytest.raises(UnsupportedLayerError, match=r"^odd takes odd kernels only$"):
        PickyConv2d(2, 2, 2, implementation="odd")
    conv = PickyConv2d(2, 2, 2)
    with pytest.raises(UnsupportedLayerError, match=r"^odd takes odd kernels only$"):
        conv.use("odd")
    assert conv.implementation == "library"
    assert PickyConv2d(2, 2, 3, implementation="odd").implementation == "odd"
