"""A network of the budget of another one: the search, and what a person sees of it."""

import itertools
import re
from typing import Any

import pytest
import torch

from convbench.errors import UserError
from convbench.models.matching import TOLERANCE, Candidate, match_budget


def quadratic(widths: list[int], depth: int | None = None) -> Candidate:
    """Cost as that of a chain of dense convolutions."""
    cost = sum(a * b for a, b in itertools.pairwise(widths)) * (depth or 1)
    return Candidate(cost, frozenset({"conv"}))


def in_fours(widths: list[int]) -> Candidate:
    """Swap the conv only where it can be split into four groups."""
    swapped = frozenset({"conv"}) if all(width % 4 == 0 for width in widths) else frozenset()
    return Candidate(quadratic(widths).cost, swapped)


def only_even_depths(widths: list[int], depth: int) -> Candidate:
    """Know only some depths, and widths of one channel each."""
    if depth % 2 or widths != [1, 1]:
        raise UserError("no such network")
    return Candidate(depth, frozenset({"conv"}))


@pytest.mark.parametrize("target", [500, 3_000, 77_000, 1_234_567])
def test_the_widths_are_scaled_alike_until_the_cost_is_within_two_percent(target: int) -> None:
    widths = match_budget(quadratic, target, [16, 32, 64])["widths"]
    assert abs(quadratic(widths).cost / target - 1) <= TOLERANCE
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.35)
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.35)


def test_a_width_that_would_bring_an_old_conv_back_is_not_taken() -> None:
    widths = match_budget(in_fours, 40_000, [16, 32, 64])["widths"]
    assert all(width % 4 == 0 for width in widths)
    assert abs(quadratic(widths).cost / 40_000 - 1) <= TOLERANCE


def test_the_depth_is_changed_where_no_width_will_do() -> None:
    assert match_budget(only_even_depths, 16, [1, 1], depth=10) == {"widths": [1, 1], "depth": 16}


def test_a_budget_out_of_reach_is_told_what_comes_nearest() -> None:
    message = (
        "no width or depth comes within 2% of the budget of 101; nearest is model.widths=[1,1], model.depth=34 with 34"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        match_budget(only_even_depths, 101, [1, 1], depth=10)


def budgets(said: str) -> tuple[int, int]:
    """The reference's and the network's own number, as the header says them."""
    wanted, have = re.search(r"([\d,]+) (?:parameters|MACs) with standard; matched to ([\d,]+)", said).groups()
    return int(wanted.replace(",", "")), int(have.replace(",", ""))


@pytest.mark.parametrize("quantity", ["params", "macs"])
@pytest.mark.parametrize("conv", ["weighted_sum", "dynamic", "grouped", "partial"])
def test_describe_shows_a_network_within_two_percent_of_the_standard_one(
    run_here: Any, conv: str, quantity: str
) -> None:
    plain = run_here("describe", f"conv={conv}", "model.depth=20")
    done = run_here("describe", f"conv={conv}", "model.depth=20", f"model.match={quantity}")
    assert done.code == 0, done.err
    wanted, have = budgets(done.out)
    assert abs(have / wanted - 1) <= TOLERANCE
    total = [int(cell.replace(",", "")) for cell in re.search(r"^total +(.+)$", done.out, re.M)[1].split()]
    assert have == total[quantity == "macs"]
    convs = re.compile(r"^(\d+ of \d+) convs are", re.M)
    assert convs.search(done.out)[1] == convs.search(plain.out)[1], "as many convs are swapped as without a budget"


def test_the_reference_is_the_network_with_the_conv_that_match_to_names(run_here: Any) -> None:
    reference = run_here("describe", "conv=weighted_sum").out
    done = run_here("describe", "conv=standard", "model.match=params", "model.match_to=weighted_sum").out
    wanted = re.search(r"([\d,]+) parameters with weighted_sum; matched to", done)[1]
    assert re.search(r"^total +([\d,]+)", reference, re.M)[1] == wanted


def test_a_matched_run_says_so_in_its_header_and_results(run_here: Any, results: Any) -> None:
    tiny = ("data.train=64", "data.val=20", "data.test=20", "data.image_size=16", "batch_size=16", "epochs=1")
    done = run_here("train", *tiny, "model.depth=8", "model.widths=[8,8,8]", "conv=weighted_sum", "model.match=params")
    assert done.code == 0, done.err
    wanted, have = budgets(done.out)
    ((_, result),) = results()
    assert (result["matched"]["params"], result["params"]) == (wanted, have)
    assert abs(result["params"] / result["matched"]["params"] - 1) <= TOLERANCE
    assert result["matched"]["arguments"]["widths"] != [8, 8, 8]
    first = result["swap"][0]
    assert (first["name"], first["status"], first["implementation"]) == ("conv1", "swapped", "pointwise")


def test_what_cannot_be_matched_is_told_why(run_here: Any) -> None:
    done = run_here("describe", "model=torchvision", "model.match=params", "data.image_size=64")
    assert (done.code, "has none to scale" in done.err) == (2, True)
    done = run_here("describe", "model.match=params", "model.match_to=cheap")
    assert (done.code, "model.match_to=cheap is no conv: choose" in done.err) == (2, True)
    done = run_here("describe", "model.match=flops")
    assert (done.code, "model.match=flops is out of range: give one of params, macs" in done.err) == (2, True)


class UncountedConv2d(torch.nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(super().forward(x)), s=None)


def test_macs_that_cannot_be_counted_are_matched_with_nothing(run_here: Any) -> None:
    words = (f"conv._target_={__name__}.UncountedConv2d", "~conv.implementation", "model.depth=8")
    refused = run_here("describe", *words, "model.match=macs")
    assert refused.code == 2
    assert "fft" in refused.err
    assert "model.match=params" in refused.err
    counted = run_here("describe", *words)
    assert counted.code == 0
    assert "not counted: aten::_fft" in counted.out
