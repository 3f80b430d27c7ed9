"""Layers of networks, measurements of layers, and sums over a network."""

from dataclasses import replace

import pytest
import torch

from convbench.benchmarks.layers import Case, measure, plans, shapes, totals
from convbench.benchmarks.roofline import Roofline
from convbench.convs.dynamic import DynamicConv2d
from convbench.convs.standard import StandardConv2d
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.errors import UserError

CPU = torch.device("cpu")
ROOFLINE = Roofline(1e12, 1e11)


def test_resnet20_has_21_convolutions_of_8_shapes() -> None:
    found = shapes("resnet20")
    assert sum(layer.count for layer in found) == 21
    assert [(str(layer), layer.count) for layer in found] == [
        ("3-16 3x3 32x32", 1),
        ("16-16 3x3 32x32", 6),
        ("16-32 1x1/2 32x32", 1),
        ("16-32 3x3/2 32x32", 1),
        ("32-32 3x3 16x16", 5),
        ("32-64 1x1/2 16x16", 1),
        ("32-64 3x3/2 16x16", 1),
        ("64-64 3x3 8x8", 5),
    ]


def test_the_network_image_is_one_convolution_of_860_x_1600_pixels() -> None:
    (layer,) = shapes("image")
    assert str(layer) == "3-3 3x3 860x1600"


def test_unknown_names_are_errors_with_the_name_and_the_key() -> None:
    for arguments, name, key in (
        ((["lenet"], ["none"], ["channels_last"]), "lenet", "layers.networks"),
        ((["resnet8"], ["fp8"], ["channels_last"]), "fp8", "layers.precisions"),
        ((["resnet8"], ["none"], ["last"]), "last", "layers.formats"),
    ):
        with pytest.raises(UserError, match=rf"'{name}'.*{key}\)"):
            plans({"standard": StandardConv2d}, *arguments, CPU)


def test_only_implementations_that_support_the_layer_and_the_device_are_planned() -> None:
    planned = plans({"weighted_sum": WeightedSumConv2d, "standard": StandardConv2d}, ["resnet8"], ["none"],
                    ["channels_last", "channels_first"], CPU)  # fmt: skip
    planned_implementations = {plan.implementation for plan in planned if plan.conv == "weighted_sum"}
    assert planned_implementations == {"linear", "pointwise", "folded"}  # fused needs a GPU
    winograd = {str(plan.layer) for plan in planned if plan.implementation == "winograd"}
    assert winograd == {"3-16 3x3 32x32", "16-16 3x3 32x32", "32-32 3x3 16x16", "64-64 3x3 8x8"}


def test_the_operations_of_a_measured_layer_include_attention_and_mixing() -> None:
    plan = next(
        plan
        for plan in plans({"dynamic": DynamicConv2d}, ["resnet8"], ["none"], ["channels_last"], CPU)
        if plan.direction == "training" and plan.implementation == "mix_after"
    )
    case = measure(plan, 2, 3, CPU, ROOFLINE)
    assert case is not None
    assert (case.conv, case.implementation, case.batch, case.count) == ("dynamic", "mix_after", 2, 1)
    standard = 2 * 2 * 32 * 32 * 16 * 27  # operations of a standard convolution of 2 images, 2 per multiply-accumulate
    # A backward pass counts twice. Attention and mixing add a few per cent.
    assert 3 * standard < case.flops < 3.3 * standard
    assert 0 < case.seconds < 5
    assert case.share == pytest.approx(max(case.flops / 1e12, case.traffic / 1e11) / case.seconds)


CASE = Case(
    network="resnet8", layer="a", conv="standard", implementation="library", precision="none",
    memory_format="channels_last", direction="training", count=2, batch=1, seconds=0.5, spread=0.1, memory=7,
    flops=100, traffic=10, share=0.5,
)  # fmt: skip


def test_totals_count_each_layer_as_often_as_the_network_has_it_fastest_first() -> None:
    slow = [CASE, replace(CASE, layer="b", count=1, seconds=1.0, memory=9)]
    slow += [replace(case, direction="forward", seconds=case.seconds / 4) for case in slow]
    fast = [replace(case, implementation="winograd", seconds=case.seconds / 2) for case in slow]
    first, second = totals([*slow, *fast])
    assert (first["implementation"], second["implementation"]) == ("winograd", "library")
    assert second["training_seconds"] == 2 * 0.5 + 1
    assert second["forward_seconds"] == (2 * 0.5 + 1) / 4
    assert second["memory"] == 9
    assert second["flops_per_second"] == (2 * 100 + 100) / 2


def test_an_implementation_that_does_not_support_all_layers_has_no_total() -> None:
    whole = [CASE, replace(CASE, layer="b")]
    whole += [replace(case, direction="forward") for case in whole]
    part = [replace(CASE, implementation="winograd"), replace(CASE, implementation="winograd", direction="forward")]
    assert [row["implementation"] for row in totals([*whole, *part])] == ["library"]
