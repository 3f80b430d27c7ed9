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
def test_parts_are_disjoint_and_cover_every_image(counts: list[int], fractions: list[float], seed: int) -> None:
    labels, parts = split(counts, fractions, seed)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(labels)))
    for part in parts:
        assert torch.equal(part, part.sort().values)
        assert set(labels[part].tolist()) == set(range(len(counts)))


@given(counts=st.lists(st.integers(20, 300), min_size=1, max_size=12), fraction=st.floats(0.1, 0.9))
def test_a_part_holds_its_fraction_of_all_images_and_of_each_class(counts: list[int], fraction: float) -> None:
    labels, (_, part) = split(counts, [fraction])
    assert len(part) == round(float((np.array(counts) * fraction).sum()))
    for label, count in enumerate(counts):
        assert abs(int((labels[part] == label).sum()) - fraction * count) < 1


def test_an_equal_seed_gives_an_equal_split_and_another_seed_another() -> None:
    first, again, other = (split([100, 100], [0.1], seed)[1][1] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_split_depends_on_no_global_random_state_and_does_not_disturb_it() -> None:
    torch.manual_seed(1)
    first = split([50, 50], [0.2])[1][1]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(split([50, 50], [0.2])[1][1], first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_split_of_seed_zero_never_changes() -> None:
    labels = torch.arange(20) % 2
    _, part = stratified_split(labels, [0.2], 0, ["even", "odd"], KEYS[:1])
    assert part.tolist() == [4, 6, 9, 15]


def test_a_class_of_the_smallest_size_gives_one_image_to_each_part() -> None:
    labels, parts = split([3, 100], [0.4, 0.4])
    assert [int((labels[part] == 0).sum()) for part in parts] == [1, 1, 1]


def test_a_small_class_keeps_an_image_to_train_on_and_gives_one_to_every_part() -> None:
    labels, parts = split([4, 400], [0.5, 0.45])
    assert min(int((labels[part] == 0).sum()) for part in parts) == 1


def test_a_class_smaller_than_the_number_of_parts_is_named() -> None:
    with pytest.raises(UserError, match=r"class 'c1' has 1 image\(s\), too few to split into 2 parts"):
        split([10, 1], [0.1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=r"data.val_fraction=.* is not a share of the images"):
        split([10, 10], [fraction])


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"data.val_fraction=0.5 and data.test_fraction=0.5 leave no images to train on"
    ):
        split([10, 10], [0.5, 0.5])
