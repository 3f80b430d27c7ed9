"""Layers of networks, and what is made of their measurements."""

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
CEILING = Roofline(1e12, 1e11)


def test_resnet20_has_21_convs_of_9_kinds() -> None:
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


def test_the_image_is_that_of_the_write_up() -> None:
    (layer,) = shapes("image")
    assert str(layer) == "3-3 3x3 860x1600"


def test_what_does_not_exist_is_refused() -> None:
    for arguments, sentence in (
        ((["lenet"], ["none"], ["channels_last"]), "there are no layers of 'lenet'"),
        ((["resnet8"], ["fp8"], ["channels_last"]), "there is no precision 'fp8'; choose none, bf16 or fp16"),
        ((["resnet8"], ["none"], ["last"]), "there is no memory format 'last'"),
    ):
        with pytest.raises(UserError, match=sentence):
            plans({"standard": StandardConv2d}, *arguments, CPU)


def test_every_implementation_is_planned_where_it_takes_the_layer_and_belongs_to_the_device() -> None:
    planned = plans({"weighted_sum": WeightedSumConv2d, "standard": StandardConv2d}, ["resnet8"], ["none"],
                    ["channels_last", "channels_first"], CPU)  # fmt: skip
    of_sum = {plan.implementation for plan in planned if plan.conv == "weighted_sum"}
    assert of_sum == {"linear", "pointwise", "folded"}  # fused is for GPUs
    winograd = {str(plan.layer) for plan in planned if plan.implementation == "winograd"}
    assert winograd == {"3-16 3x3 32x32", "16-16 3x3 32x32", "32-32 3x3 16x16", "64-64 3x3 8x8"}


def test_a_layer_is_measured_with_the_work_of_its_method() -> None:
    plan = next(
        plan
        for plan in plans({"dynamic": DynamicConv2d}, ["resnet8"], ["none"], ["channels_last"], CPU)
        if plan.direction == "training" and plan.implementation == "mix_after"
    )
    case = measure(plan, 2, 3, CPU, CEILING)
    assert case is not None
    assert (case.conv, case.implementation, case.batch, case.count) == ("dynamic", "mix_after", 2, 1)
    dense = 2 * 2 * 32 * 32 * 16 * 27  # operations of 2 images: two for each multiplication
    assert 3 * dense < case.flops < 3.3 * dense  # once forward, twice backward; attention and mixing on top
    assert 0 < case.seconds < 5
    assert case.share == pytest.approx(max(case.flops / 1e12, case.traffic / 1e11) / case.seconds)


CASE = Case(
    network="resnet8", layer="a", conv="standard", implementation="library", precision="none",
    memory_format="channels_last", direction="training", count=2, batch=1, seconds=0.5, spread=0.1, memory=7,
    flops=100, traffic=10, share=0.5,
)  # fmt: skip


def test_layers_are_added_up_by_how_often_the_network_has_them_the_fastest_first() -> None:
    slow = [CASE, replace(CASE, layer="b", count=1, seconds=1.0, memory=9)]
    slow += [replace(case, direction="forward", seconds=case.seconds / 4) for case in slow]
    fast = [replace(case, implementation="winograd", seconds=case.seconds / 2) for case in slow]
    first, second = totals([*slow, *fast])
    assert (first["implementation"], second["implementation"]) == ("winograd", "library")
    assert second["training_seconds"] == 2 * 0.5 + 1
    assert second["forward_seconds"] == (2 * 0.5 + 1) / 4
    assert second["memory"] == 9
    assert second["flops_per_second"] == (2 * 100 + 100) / 2


def test_what_cannot_compute_all_layers_of_a_network_has_no_total() -> None:
    whole = [CASE, replace(CASE, layer="b")]
    whole += [replace(case, direction="forward") for case in whole]
    part = [replace(CASE, implementation="winograd"), replace(CASE, implementation="winograd", direction="forward")]
    assert [row["implementation"] for row in totals([*whole, *part])] == ["library"]
