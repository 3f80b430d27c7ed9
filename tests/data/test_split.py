import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convbench.data.split import stratified_split
from convbench.errors import UserError

KEYS = ["data.val_fraction", "data.test_fraction"]


def split(counts: list[int], fractions: list[float], seed: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    classes = [f"c{number}" for number in range(len(counts))]
    return labels, stratified_split(labels, fractions, seed, classes, KEYS[: len(fractions)])


@given(
    counts=st.lists(st.integers(3, 300), min_size=1, max_size=12),
    fractions=st.lists(st.floats(0.01, 0.45), min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
)
def test_parts_are_disjoint_and_contain_every_image(counts: list[int], fractions: list[float], seed: int) -> None:
    labels, parts = split(counts, fractions, seed)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(labels)))
    for part in parts:
        assert torch.equal(part, part.sort().values)
        assert set(labels[part].tolist()) == set(range(len(counts)))


@given(counts=st.lists(st.integers(20, 300), min_size=1, max_size=12), fraction=st.floats(0.1, 0.9))
def test_a_part_contains_its_fraction_of_all_images_and_of_each_class(counts: list[int], fraction: float) -> None:
    labels, (_, part) = split(counts, [fraction])
    assert len(part) == round(float((np.array(counts) * fraction).sum()))
    for label, count in enumerate(counts):
        assert abs(int((labels[part] == label).sum()) - fraction * count) < 1


def test_equal_seeds_give_equal_splits_and_different_seeds_different_splits() -> None:
    first, again, other = (split([100, 100], [0.1], seed)[1][1] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_split_neither_depends_on_the_global_random_state_nor_changes_it() -> None:
    torch.manual_seed(1)
    first = split([50, 50], [0.2])[1][1]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(split([50, 50], [0.2])[1][1], first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_split_for_seed_zero_is_the_same_in_all_versions() -> None:
    labels = torch.arange(20) % 2
    _, part = stratified_split(labels, [0.2], 0, ["even", "odd"], KEYS[:1])
    assert part.tolist() == [4, 6, 9, 15]


def test_a_class_with_one_image_per_part_gives_one_to_each_part() -> None:
    labels, parts = split([3, 100], [0.4, 0.4])
    assert [int((labels[part] == 0).sum()) for part in parts] == [1, 1, 1]


def test_a_small_class_has_an_image_in_every_part_despite_large_fractions() -> None:
    labels, parts = split([4, 400], [0.5, 0.45])
    assert min(int((labels[part] == 0).sum()) for part in parts) == 1


def test_the_error_for_a_class_smaller_than_the_number_of_parts_names_it() -> None:
    with pytest.raises(UserError, match=r"'c1' has 1 image.* 2 parts.*\(data\.val_fraction\)$"):
        split([10, 1], [0.1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=rf"={re.escape(str(fraction))} .*\(data\.val_fraction\)$"):
        split([10, 10], [fraction])


def test_fractions_that_leave_no_training_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"=0\.5 .*=0\.5 .*\(data\.val_fraction, data\.test_fraction\)$"):
        split([10, 10], [0.5, 0.5])
