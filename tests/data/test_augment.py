from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from convbench.data.augment import Augment, AugmentationParameters, Renderer, mix_seed
from convbench.errors import UserError

CPU = torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def pictures(count: int = 12, channels: int = 3, size: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def renderer(augment: Augment, channels: int = 3, channels_last: bool = False) -> Renderer:
    return Renderer(MEAN[:channels], STD[:channels], augment, channels_last, CPU)


def no_change(count: int) -> AugmentationParameters:
    zeros = torch.zeros(count, dtype=torch.int64)
    return AugmentationParameters(zeros, zeros, zeros, zeros, zeros)


def normalised(images: np.ndarray) -> np.ndarray:
    """Reference: (x/255 - mean)/std in float64."""
    channels = images.shape[-3]
    mean, std = (np.array(value[:channels])[:, None, None] for value in (MEAN, STD))
    return (images.astype(np.float64) / 255 - mean) / std


def reference(images: Tensor, rows: Tensor, draws: AugmentationParameters, augment: Augment) -> np.ndarray:
    """Reference for one sample at a time: pad, crop, mirror, normalise, blank the cutout square."""
    pad, size = augment.crop_padding, images.shape[-1]
    result = []
    for sample, row in enumerate(rows.tolist()):
        down, right, mirrored, top, left = (getattr(draws, field.name)[sample].item() for field in fields(draws))
        mode = {"reflect": {"mode": "reflect"}, "zero": {"mode": "constant"}}[augment.padding_mode]
        padded = np.pad(images[row].numpy(), ((0, 0), (pad, pad), (pad, pad)), **mode)
        window = padded[:, pad + down : pad + down + size, pad + right : pad + right + size]
        picture = normalised(window[:, :, ::-1] if mirrored else window)
        if augment.cutout:
            for y in range(top, top + augment.cutout):
                for x in range(left, left + augment.cutout):
                    if 0 <= y < size and 0 <= x < size:
                        picture[:, y, x] = 0
        result.append(picture)
    return np.stack(result)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_plain_rendering_is_the_image_normalised_by_mean_and_std(channels: int, channels_last: bool) -> None:
    images, rows = pictures(channels=channels), torch.tensor([3, 3, 0, 11])
    batch = renderer(Augment(), channels, channels_last).plain(images, rows)
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch.numpy(), normalised(images[rows].numpy()), atol=1e-6)


@pytest.mark.parametrize("padding_mode", ["reflect", "zero"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_zero_draws_render_the_same_batch_as_without_augmentation(
    channels: int, channels_last: bool, padding_mode: str
) -> None:
    images, rows = pictures(channels=channels), torch.tensor([5, 0, 11, 5])
    render = renderer(Augment(crop_padding=2, padding_mode=padding_mode, flip=True), channels, channels_last)
    assert torch.equal(render.augmented(images, rows, no_change(4)), render.plain(images, rows))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(crop_padding=2),
        Augment(crop_padding=2, padding_mode="zero"),
        Augment(crop_padding=2, padding_mode="zero", flip=True, cutout=3),
    ],
    ids=["none", "reflect", "zero", "all"],
)
def test_batches_have_the_requested_memory_format(augment: Augment, channels_last: bool) -> None:
    images, rows = pictures(), torch.arange(12)
    render = renderer(augment, channels_last=channels_last)
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    for batch in (render.plain(images, rows), render.augmented(images, rows, augment.draw(12, 7, seed=0, epoch=0))):
        assert batch.shape == (12, 3, 7, 7)
        assert batch.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("cutout", [0, 3, 4])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding_mode", "crop_padding"), [("reflect", 6), ("zero", 6), ("zero", 9)])
def test_crop_flip_and_cutout_match_a_reference_for_single_samples(
    padding_mode: str, crop_padding: int, channels: int, channels_last: bool, cutout: int
) -> None:
    augment = Augment(crop_padding, padding_mode, flip=True, cutout=cutout)
    images = pictures(channels=channels)
    rows = torch.randint(0, 12, (150,), generator=torch.Generator().manual_seed(1))
    draws = augment.draw(150, 7, seed=3, epoch=2)
    # The draws cover all shifts.
    assert len(draws.down.unique()) == len(draws.right.unique()) == 2 * crop_padding + 1
    batch = renderer(augment, channels, channels_last).augmented(images, rows, draws)
    np.testing.assert_allclose(batch.numpy(), reference(images, rows, draws, augment), atol=1e-6)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_compiled_renderer_gives_bitwise_equal_batches_without_recompilation(channels_last: bool) -> None:
    augment = Augment(crop_padding=2, padding_mode="reflect", flip=True, cutout=3)
    plain, compiled = (renderer(augment, channels_last=channels_last) for _ in range(2))
    compiled.compile()
    images, draws = pictures(), augment.draw(12, 7, seed=1, epoch=0)
    compiled.augmented(images, torch.arange(4), draws[:4])
    with torch.compiler.set_stance("fail_on_recompile"):
        for part in (slice(4, 8), slice(8, 12)):
            rows = torch.arange(12)[part]
            got, wanted = (one.augmented(images, rows, draws[part]) for one in (compiled, plain))
            assert torch.equal(got, wanted)
            assert got.stride() == wanted.stride()


def test_both_memory_formats_contain_equal_values() -> None:
    augment = Augment(crop_padding=3, flip=True, cutout=3)
    images, rows = pictures(), torch.arange(12)
    draws = augment.draw(12, 7, seed=0, epoch=0)
    first, last = (renderer(augment, channels_last=layout).augmented(images, rows, draws) for layout in (False, True))
    assert torch.equal(first, last)


@pytest.mark.parametrize(
    ("top", "left", "height", "width"),
    [(1, 2, 3, 3), (-1, 0, 2, 3), (5, 6, 2, 1), (-3, 0, 0, 3), (0, 7, 3, 0)],
    ids=["inside", "over the top edge", "over a corner", "above the image", "right of the image"],
)
def test_cutout_sets_exactly_its_square_to_the_mean_colour(top: int, left: int, height: int, width: int) -> None:
    images = torch.full((1, 3, 7, 7), 255, dtype=torch.uint8)  # white differs from the mean colour in all channels
    draws = replace(no_change(1), cut_top=torch.tensor([top]), cut_left=torch.tensor([left]))
    batch = renderer(Augment(cutout=3)).augmented(images, torch.tensor([0]), draws)
    blank = torch.zeros(7, 7, dtype=torch.bool)
    blank[max(top, 0) : max(top + 3, 0), max(left, 0) : max(left + 3, 0)] = True
    assert blank.sum() == height * width
    assert torch.equal(batch[0] == 0, blank.expand(3, 7, 7))


def test_zero_padding_is_black_and_not_the_mean_colour() -> None:
    images = torch.full((1, 3, 7, 7), 255, dtype=torch.uint8)
    draws = replace(no_change(1), down=torch.tensor([2]))
    batch = renderer(Augment(crop_padding=2, padding_mode="zero")).augmented(images, torch.tensor([0]), draws)
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    torch.testing.assert_close(batch[0, :, 5:], black[:, None, None].expand(3, 2, 7))
    assert (batch[0, :, :5] > 0).all()


@pytest.mark.parametrize("size", [1, 2, 32])
def test_crop_shifts_and_cutout_corners_cover_exactly_their_ranges(size: int) -> None:
    draws = Augment(crop_padding=2, padding_mode="zero", flip=True, cutout=5).draw(2000, size, seed=0, epoch=0)
    for shift in (draws.down, draws.right):
        assert (shift.min(), shift.max()) == (-2, 2)
    for corner in (draws.cut_top, draws.cut_left):
        centre = corner + 5 // 2
        assert (centre.min(), centre.max()) == (0, size - 1)
    assert set(draws.mirrored.tolist()) == {0, 1}


def test_enabling_one_augmentation_does_not_change_the_draws_of_the_others() -> None:
    plain = Augment(crop_padding=4).draw(64, 32, seed=1, epoch=2)
    everything = Augment(crop_padding=4, flip=True, cutout=8, mixup_alpha=0.2).draw(64, 32, seed=1, epoch=2)
    uncropped = Augment(flip=True, cutout=8).draw(64, 32, seed=1, epoch=2)
    assert torch.equal(plain.down, everything.down)
    assert torch.equal(plain.right, everything.right)
    for name in ("mirrored", "cut_top", "cut_left"):
        assert torch.equal(getattr(everything, name), getattr(uncropped, name))


def test_each_augmentation_parameter_has_its_own_random_stream() -> None:
    draws = Augment(crop_padding=4, cutout=8).draw(64, 9, seed=1, epoch=2)  # all four parameters have nine values
    drawn = [draws.down + 4, draws.right + 4, draws.cut_top + 4, draws.cut_left + 4]
    for index, one in enumerate(drawn):
        assert not any(torch.equal(one, other) for other in drawn[:index])


def test_draws_depend_only_on_seed_and_epoch() -> None:
    augment = Augment(crop_padding=4, flip=True, cutout=8)
    torch.manual_seed(1)
    first = augment.draw(64, 32, seed=1, epoch=2)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = augment.draw(64, 32, seed=1, epoch=2)
    assert torch.equal(torch.get_rng_state(), state)
    for field in fields(AugmentationParameters):
        draw = getattr(first, field.name)
        assert torch.equal(draw, getattr(again, field.name))
        for seed, epoch in ((1, 3), (2, 2), (2, 1)):
            assert not torch.equal(draw, getattr(augment.draw(64, 32, seed, epoch), field.name))


def test_about_half_of_the_samples_are_mirrored_independently() -> None:
    mirrored = Augment(flip=True).draw(4000, 32, seed=0, epoch=0).mirrored
    assert 1800 < mirrored.sum() < 2200
    assert 1800 < (mirrored[1:] != mirrored[:-1]).sum() < 2200  # neighbours are independent


def test_without_flip_no_sample_is_mirrored() -> None:
    assert not Augment(crop_padding=4).draw(100, 32, seed=0, epoch=0).mirrored.any()


def test_a_slice_of_the_draws_gives_the_same_slice_of_the_batch() -> None:
    augment = Augment(crop_padding=3, flip=True, cutout=3)
    images, rows = pictures(), torch.arange(12)
    draws = augment.draw(12, 7, seed=0, epoch=0)
    whole = renderer(augment).augmented(images, rows, draws)
    part = renderer(augment).augmented(images, rows[4:9], draws[4:9])
    assert torch.equal(part, whole[4:9])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding_mode", ["reflect", "zero"])
def test_augmentation_calls_no_operation_that_waits_for_a_gpu(padding_mode: str, channels_last: bool) -> None:
    augment = Augment(crop_padding=2, padding_mode=padding_mode, flip=True, cutout=3)
    images, rows = pictures(), torch.arange(12)
    render, draws = renderer(augment, channels_last=channels_last), augment.draw(12, 7, seed=0, epoch=0)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        render.augmented(images, rows, draws)
    called = {event.key for event in profiler.key_averages()}
    assert "aten::take" in called  # the profiler records the operations
    # Each of these operations would make the host wait for a GPU.
    assert not called & {"aten::nonzero", "aten::_local_scalar_dense", "aten::item", "aten::masked_select"}


def test_rendering_does_not_change_the_data_set() -> None:
    images = pictures()
    before = images.clone()
    augment = Augment(crop_padding=2, padding_mode="zero", flip=True, cutout=3)
    render = renderer(augment)
    render.plain(images, torch.arange(12))
    render.augmented(images, torch.arange(12), augment.draw(12, 7, seed=0, epoch=0))
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (lambda: Augment(padding_mode="wrap"), ["'wrap'", "reflect", "zero", "(augment.padding_mode)"]),
        (lambda: Augment(crop_padding=-1), ["-1", "(augment.crop_padding)"]),
        (lambda: Augment(cutout=-2), ["-2", "(augment.cutout)"]),
        (lambda: Augment(cutout=2.5), ["2.5", "(augment.cutout)"]),
        (lambda: Augment(mixup_alpha=-0.5), ["-0.5", "(augment.mixup_alpha)"]),
        (lambda: Augment(cutmix_alpha=-1.0), ["-1.0", "(augment.cutmix_alpha)"]),
        (lambda: Augment(crop_padding=8).check(8), ["8", "at most 7", "(augment.crop_padding)"]),
    ],
)
def test_invalid_arguments_raise_an_error_with_the_value_and_the_key(
    make: Callable[[], object], facts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert [fact for fact in facts if fact not in str(caught.value)] == []


def test_the_largest_possible_padding_passes_the_check() -> None:
    Augment(crop_padding=7).check(8)
    Augment(crop_padding=8, padding_mode="zero").check(8)


def test_the_mixer_is_none_without_mixup_and_cutmix() -> None:
    assert Augment(crop_padding=4, flip=True, cutout=8).mixer(10) is None


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)], ids=["mixup", "cutmix", "both"])
def test_mixed_labels_are_probabilities(alphas: tuple[float, float]) -> None:
    mix = Augment(mixup_alpha=alphas[0], cutmix_alpha=alphas[1]).mixer(5)
    assert mix is not None
    batch, labels = torch.rand(8, 3, 7, 7), torch.arange(8) % 5
    torch.manual_seed(0)
    mixed, shares = mix(batch, labels)
    assert mixed.shape == batch.shape
    assert shares.shape == (8, 5)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(8))
    assert not torch.equal(mixed, batch)


@pytest.mark.parametrize("key", ["mixup_alpha", "cutmix_alpha"])
def test_an_alpha_may_be_an_integer(key: str) -> None:
    mix = Augment(**{key: 1}).mixer(4)
    assert mix is not None
    mix(torch.rand(4, 3, 5, 5), torch.arange(4))


def test_mixup_mixes_images_and_labels_with_the_same_weight() -> None:
    mix = Augment(mixup_alpha=1.0).mixer(8)
    assert mix is not None
    labels = torch.arange(8)
    # The colour of each image is its one-hot label, so the mixed image must be equal to the mixed label.
    batch = torch.eye(8)[:, :, None, None].expand(8, 8, 3, 3).contiguous()
    torch.manual_seed(1)
    mixed, shares = mix(batch, labels)
    torch.testing.assert_close(mixed[:, :, 0, 0], shares)
    assert 0.01 < shares.max(1).values.min() < 0.99


def test_with_mixup_and_cutmix_each_batch_uses_one_of_them() -> None:
    mix = Augment(mixup_alpha=1.0, cutmix_alpha=1.0).mixer(4)
    assert mix is not None
    batch = torch.eye(4)[:, :, None, None].expand(4, 4, 9, 9).contiguous()
    kinds = set()
    torch.manual_seed(0)
    for _ in range(20):
        mixed, _ = mix(batch, torch.arange(4))
        kinds.add("cutmix" if set(mixed.unique().tolist()) <= {0.0, 1.0} else "mixup")
    assert kinds == {"mixup", "cutmix"}


def test_the_mixing_seed_differs_between_seeds_epochs_and_batches() -> None:
    seeds = {mix_seed(seed, epoch, index) for seed in range(3) for epoch in range(3) for index in range(3)}
    assert len(seeds) == 27
