import pytest
import torch
from torch import Tensor

from convbench.data.augment import Augment, Renderer
from convbench.data.resident import EvalBatches, TrainBatches, to_device
from convbench.data.types import Split, Splits
from convbench.errors import UserError

CPU = torch.device("cpu")
COUNT = 23


def split(indices: Tensor | None = None) -> Split:
    """Images whose colour is their row, so that the pixels of a batch show its rows."""
    images = torch.arange(COUNT, dtype=torch.uint8)[:, None, None, None].expand(COUNT, 1, 4, 4).contiguous()
    rows = torch.arange(COUNT) if indices is None else indices
    return Split(images, torch.arange(COUNT) % 5, rows, [f"image {row}" for row in range(COUNT)])


def renderer(augment: Augment | None = None) -> Renderer:
    return Renderer((0.0,), (1 / 255,), augment or Augment(), channels_last=False, device=CPU)


def train_batches(
    batch_size: int = 5, seed: int = 0, augment: Augment | None = None, indices: Tensor | None = None
) -> TrainBatches:
    return TrainBatches(split(indices), batch_size, renderer(augment), num_classes=5, seed=seed)


def rows_of(batch: Tensor) -> list[int]:
    assert (batch == batch[:, :1, :1, :1]).all()
    return batch[:, 0, 0, 0].round().int().tolist()


def order(batches: TrainBatches, epoch: int) -> list[int]:
    return [row for batch, _ in batches.epoch(epoch) for row in rows_of(batch)]


def test_tensors_that_splits_share_stay_shared_after_moving() -> None:
    train = split(torch.arange(0, 15))
    val = Split(train.images, train.labels, torch.arange(15, COUNT), train.names)
    test = Split(train.images.clone(), None, torch.arange(4), train.names)
    moved = to_device(Splits(train, val, test, (0.5,), (0.2,)), torch.device("meta"))
    assert moved.train.images is moved.val.images
    assert moved.train.labels is moved.val.labels
    assert moved.test is not None
    assert moved.test.images is not moved.train.images
    assert moved.test.labels is None
    for part in (moved.train, moved.val, moved.test):
        assert part.images.device.type == part.indices.device.type == "meta"


def test_moving_to_the_current_device_copies_nothing() -> None:
    train = split()
    moved = to_device(Splits(train, train, None, (0.5,), (0.2,)), CPU)
    assert moved.train.images.data_ptr() == moved.val.images.data_ptr() == train.images.data_ptr()
    assert moved.test is None
    assert (moved.mean, moved.std) == ((0.5,), (0.2,))


@pytest.mark.parametrize("indices", [None, torch.arange(1, COUNT, 2)], ids=["all rows", "odd rows"])
def test_an_epoch_contains_each_image_of_the_split_at_most_once(indices: Tensor | None) -> None:
    batches = train_batches(indices=indices)
    allowed = set(range(COUNT) if indices is None else indices.tolist())
    rows = order(batches, 0)
    assert len(rows) == len(set(rows)) == len(batches) * 5 == len(allowed) // 5 * 5
    assert set(rows) <= allowed


def test_the_incomplete_last_batch_is_dropped_so_that_all_steps_have_the_same_shape() -> None:
    batches = train_batches(batch_size=5)
    got = list(batches.epoch(0))
    assert len(got) == len(batches) == 4
    assert {tuple(batch.shape) for batch, _ in got} == {(5, 1, 4, 4)}
    assert {tuple(labels.shape) for _, labels in got} == {(5,)}


def test_images_dropped_in_one_epoch_are_used_in_another() -> None:
    batches = train_batches(batch_size=20)
    assert set().union(*(order(batches, epoch) for epoch in range(8))) == set(range(COUNT))


def test_labels_belong_to_their_images() -> None:
    for batch, labels in train_batches(indices=torch.arange(COUNT).flip(0)).epoch(0):
        assert labels.tolist() == [row % 5 for row in rows_of(batch)]


def test_the_order_depends_only_on_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = order(train_batches(), 3)
    torch.manual_seed(2)
    used = train_batches(augment=Augment(flip=True))
    order(used, 0)  # neither earlier epochs nor the augmentation change the order
    assert order(used, 3) == first
    assert order(train_batches(), 4) != first
    assert order(train_batches(seed=1), 3) != first
    assert first != sorted(first)


@pytest.mark.parametrize(
    "augment",
    [Augment(crop_padding=2, flip=True, cutout=2), Augment(mixup_alpha=0.2), Augment(mixup_alpha=0.2, cutmix_alpha=1)],
    ids=["crop, flip and cutout", "mixup", "mixup or cutmix"],
)
def test_starting_in_the_middle_of_an_epoch_gives_the_same_batches(augment: Augment) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (COUNT, 1, 4, 4), dtype=torch.uint8, generator=generator)
    data = Split(images, torch.arange(COUNT) % 5, torch.arange(COUNT), [""] * COUNT)
    batches = TrainBatches(data, 5, renderer(augment), num_classes=5, seed=7)
    skipped = list(batches.epoch(2))[2:]
    started = list(batches.epoch(2, first=2))
    assert len(started) == len(skipped) == 2
    for (batch, labels), (other_batch, other_labels) in zip(started, skipped, strict=True):
        assert torch.equal(batch, other_batch)
        assert torch.equal(labels, other_labels)


def test_starting_at_the_end_of_an_epoch_gives_no_batches() -> None:
    assert list(train_batches().epoch(0, first=4)) == []


def test_the_error_for_a_batch_larger_than_the_data_gives_both_sizes_and_the_key() -> None:
    with pytest.raises(UserError) as caught:
        train_batches(batch_size=24)
    for fact in ("24", "23", "(batch_size)"):
        assert fact in str(caught.value)
    assert len(train_batches(batch_size=23)) == 1


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)], ids=["mixup", "cutmix", "both"])
def test_mixed_batches_are_reproducible_and_do_not_change_the_global_generator(
    alphas: tuple[float, float],
) -> None:
    augment = Augment(mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
    batches = train_batches(augment=augment)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = list(batches.epoch(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    for (batch, labels), (again, labels_again) in zip(first, batches.epoch(1), strict=True):
        assert torch.equal(batch, again)
        assert torch.equal(labels, labels_again)
        torch.testing.assert_close(labels.sum(1), torch.ones(5))


def test_each_batch_and_epoch_has_a_different_mixing_weight() -> None:
    batches = train_batches(augment=Augment(mixup_alpha=1.0))
    weights = [labels.max(1).values.min().item() for epoch in (0, 1) for _, labels in batches.epoch(epoch)]
    assert len(set(weights)) == len(weights)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
def test_evaluation_contains_all_rows_once_and_in_order(batch_size: int) -> None:
    indices = torch.arange(COUNT).roll(7)
    batches = EvalBatches(split(indices), batch_size, renderer())
    got = list(batches)
    assert len(got) == len(batches) == -(-COUNT // batch_size)
    assert torch.cat([rows for _, rows, _ in got]).tolist() == indices.tolist()
    assert [row for batch, _, count in got for row in rows_of(batch)[:count]] == indices.tolist()
    for batch, rows, count in got:
        assert count == len(rows)
        assert batch.shape == (batch_size, 1, 4, 4)


def test_the_last_batch_of_an_evaluation_is_padded_with_its_last_image() -> None:
    *_, (batch, rows, count) = EvalBatches(split(), 5, renderer())
    assert count == 3
    assert rows.tolist() == [20, 21, 22]
    assert rows_of(batch) == [20, 21, 22, 22, 22]


def test_evaluation_does_not_augment_and_can_be_repeated() -> None:
    batches = EvalBatches(split(), 23, renderer(Augment(crop_padding=3, flip=True, cutout=4)))
    for _ in range(2):
        ((batch, _, _),) = batches
        assert rows_of(batch) == list(range(COUNT))


def test_an_unlabelled_split_can_be_evaluated() -> None:
    data = split()
    unlabelled = Split(data.images, None, data.indices, data.names)
    assert sum(count for _, _, count in EvalBatches(unlabelled, 4, renderer())) == COUNT
