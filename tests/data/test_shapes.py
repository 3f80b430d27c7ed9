import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from convbench.data.shapes import SHAPES, Shapes, draw
from convbench.errors import UserError

DEFAULTS = {
    "image_size": 32,
    "train": 4000,
    "val": 1000,
    "test": 1000,
    "seed": 0,
    "mean": None,
    "std": None,
    "flip": True,
}


def shapes(**changes: object) -> Shapes:
    return Shapes(**{**DEFAULTS, **changes})  # type: ignore[arg-type]


def digest(source: Shapes) -> str:
    splits = source.load()
    assert splits.test is not None
    return hashlib.sha256(
        b"".join(s.images.numpy().tobytes() for s in (splits.train, splits.val, splits.test))
    ).hexdigest()


def test_all_calls_and_processes_draw_the_same_images() -> None:
    small = {"train": 100, "val": 20, "test": 20}
    expected = digest(shapes(**small))
    torch.manual_seed(5)
    assert digest(shapes(**small)) == expected
    code = f"from tests.data.test_shapes import *; print(digest(shapes(**{small})))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == expected


def test_a_different_seed_draws_different_images() -> None:
    assert digest(shapes(train=50, seed=1)) != digest(shapes(train=50))


def test_no_image_occurs_in_two_splits() -> None:
    splits = shapes(train=200, val=200, test=200).load()
    assert splits.test is not None
    drawn = [image.tobytes() for s in (splits.train, splits.val, splits.test) for image in s.images.numpy()]
    assert len(set(drawn)) == 600


def test_the_number_of_validation_images_does_not_change_the_training_images() -> None:
    assert torch.equal(shapes(train=100, val=10).load().train.images, shapes(train=100, val=500).load().train.images)


@pytest.mark.parametrize("image_size", [16, 48])
def test_the_loaded_splits_have_the_properties_of_the_spec(image_size: int) -> None:
    source = shapes(image_size=image_size, train=100, val=20, test=30)
    spec, splits = source.spec(), source.load()
    assert splits.test is not None
    assert spec.classes == tuple(sorted(SHAPES))
    for split, count in ((splits.train, 100), (splits.val, 20), (splits.test, 30)):
        assert split.images.shape == (count, spec.channels, spec.image_size, spec.image_size)
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous()
        assert split.labels is not None
        assert torch.bincount(split.labels).tolist() == [count // 10] * 10
        assert len(split) == len(split.names) == count
    assert len(splits.mean) == len(splits.std) == 3


def test_the_chunks_of_a_class_are_stored_in_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convbench.data.shapes._CHUNK_PIXELS", 32 * 32 * 7)
    images = shapes(train=200, val=10, test=10).load().train.images
    for label, shape in enumerate(SHAPES):
        chunks = list(draw(shape, 20, 32, (0, 0, label)))
        assert [len(chunk) for chunk in chunks] == [7, 7, 6]
        np.testing.assert_array_equal(images[label::10], np.concatenate(chunks))


def test_the_mean_colour_of_an_image_does_not_determine_its_class() -> None:
    train = shapes().load().train
    assert train.labels is not None
    colours = train.images.float().mean(dim=(2, 3))
    class_means = torch.stack([colours[train.labels == label].mean(0) for label in range(10)])
    nearest = torch.cdist(colours, class_means).argmin(dim=1)
    assert (nearest == train.labels).float().mean() < 0.2


def test_the_default_images_are_drawn_in_a_few_seconds_of_cpu_time() -> None:
    start = time.process_time()
    shapes().load()
    assert time.process_time() - start < 4  # twice the documented time, so that the test passes on a busy machine


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_smaller_than_the_number_of_classes_is_refused(split: str) -> None:
    with pytest.raises(UserError, match=rf"=9 .* 10 classes.*\(data\.{split}\)$"):
        shapes(**{split: 9})


def test_images_too_small_for_shapes_are_refused() -> None:
    with pytest.raises(UserError, match=r"=8 .*16 .*\(data\.image_size\)$"):
        shapes(image_size=8)
