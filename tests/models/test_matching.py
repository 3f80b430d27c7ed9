"""Matching the budget of another network: the search, and the output of the commands."""

import itertools
import re
from typing import Any

import pytest
import torch

from convbench.errors import UserError
from convbench.models.matching import TOLERANCE, Candidate, match_budget


def quadratic(widths: list[int], depth: int | None = None) -> Candidate:
    """A network with the cost of a sequence of dense convolutions."""
    cost = sum(a * b for a, b in itertools.pairwise(widths)) * (depth or 1)
    return Candidate(cost, frozenset({"conv"}))


def with_four_groups(widths: list[int]) -> Candidate:
    """A network whose convolution is replaced only if four groups divide all widths."""
    swapped = frozenset({"conv"}) if all(width % 4 == 0 for width in widths) else frozenset()
    return Candidate(quadratic(widths).cost, swapped)


def only_even_depths(widths: list[int], depth: int) -> Candidate:
    """A network that exists only for even depths and widths of one channel."""
    if depth % 2 or widths != [1, 1]:
        raise UserError("no such network")
    return Candidate(depth, frozenset({"conv"}))


@pytest.mark.parametrize("target", [500, 3_000, 77_000, 1_234_567])
def test_all_widths_are_scaled_by_a_common_factor_until_the_cost_is_within_two_percent(target: int) -> None:
    widths = match_budget(quadratic, target, [16, 32, 64])["widths"]
    assert abs(quadratic(widths).cost / target - 1) <= TOLERANCE
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.35)
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.35)


def test_widths_with_which_fewer_convs_are_replaced_are_not_used() -> None:
    widths = match_budget(with_four_groups, 40_000, [16, 32, 64])["widths"]
    assert all(width % 4 == 0 for width in widths)
    assert abs(quadratic(widths).cost / 40_000 - 1) <= TOLERANCE


def test_the_depth_is_changed_if_no_widths_match() -> None:
    assert match_budget(only_even_depths, 16, [1, 1], depth=10) == {"widths": [1, 1], "depth": 16}


def test_the_error_for_an_unreachable_budget_has_the_closest_candidate() -> None:
    facts = r"2% .*101; .*model\.widths=\[1,1\], model\.depth=34 .*34.*\(model\.match\)$"
    with pytest.raises(UserError, match=facts):
        match_budget(only_even_depths, 101, [1, 1], depth=10)


def budgets(output: str) -> tuple[int, int]:
    """Return the cost of the reference and of the matched network from the header."""
    target, matched = re.search(r"([\d,]+) (?:parameters|MACs) with standard; matched to ([\d,]+)", output).groups()
    return int(target.replace(",", "")), int(matched.replace(",", ""))


@pytest.mark.parametrize("quantity", ["params", "macs"])
@pytest.mark.parametrize("conv", ["weighted_sum", "dynamic", "grouped", "partial"])
def test_describe_shows_a_network_within_two_percent_of_the_standard_one(
    run_here: Any, conv: str, quantity: str
) -> None:
    plain = run_here("describe", f"conv={conv}", "model.depth=20")
    done = run_here("describe", f"conv={conv}", "model.depth=20", f"model.match={quantity}")
    assert done.code == 0, done.err
    target, matched = budgets(done.out)
    assert abs(matched / target - 1) <= TOLERANCE
    total = [int(cell.replace(",", "")) for cell in re.search(r"^total +(.+)$", done.out, re.M)[1].split()]
    assert matched == total[quantity == "macs"]
    convs = re.compile(r"^(\d+ of \d+) convs are", re.M)
    assert convs.search(done.out)[1] == convs.search(plain.out)[1], "the same convs are replaced as without a budget"


def test_the_reference_is_the_network_with_the_conv_of_match_to(run_here: Any) -> None:
    reference = run_here("describe", "conv=weighted_sum").out
    done = run_here("describe", "conv=standard", "model.match=params", "model.match_to=weighted_sum").out
    target = re.search(r"([\d,]+) parameters with weighted_sum; matched to", done)[1]
    assert re.search(r"^total +([\d,]+)", reference, re.M)[1] == target


def test_the_header_and_the_results_of_a_matched_run_have_both_costs(run_here: Any, results: Any) -> None:
    tiny = ("data.train=64", "data.val=20", "data.test=20", "data.image_size=16", "batch_size=16", "epochs=1")
    done = run_here("train", *tiny, "model.depth=8", "model.widths=[8,8,8]", "conv=weighted_sum", "model.match=params")
    assert done.code == 0, done.err
    target, matched = budgets(done.out)
    ((_, result),) = results()
    assert (result["matched"]["params"], result["params"]) == (target, matched)
    assert abs(result["params"] / result["matched"]["params"] - 1) <= TOLERANCE
    assert result["matched"]["arguments"]["widths"] != [8, 8, 8]
    first = result["swap"][0]
    assert (first["name"], first["status"], first["implementation"]) == ("conv1", "swapped", "pointwise")


def test_networks_and_values_that_cannot_be_matched_are_errors(run_here: Any) -> None:
    done = run_here("describe", "model=torchvision", "model.match=params", "data.image_size=64")
    assert (done.code, "(model.match)" in done.err) == (2, True)
    done = run_here("describe", "model.match=params", "model.match_to=cheap")
    assert (done.code, "model.match_to=cheap" in done.err, "weighted_sum" in done.err) == (2, True, True)
    done = run_here("describe", "model.match=flops")
    assert (done.code, "model.match=flops" in done.err, "params, macs" in done.err) == (2, True, True)


class UncountedConv2d(torch.nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(super().forward(x)), s=None)


def test_networks_with_uncounted_operators_cannot_be_matched_by_macs(run_here: Any) -> None:
    overrides = (f"conv._target_={__name__}.UncountedConv2d", "~conv.implementation", "model.depth=8")
    refused = run_here("describe", *overrides, "model.match=macs")
    assert refused.code == 2
    assert "fft" in refused.err
    assert "model.match=params" in refused.err
    counted = run_here("describe", *overrides)
    assert counted.code == 0
    assert "MACs do not include aten::_fft" in counted.out
