import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convbench.data.folder import load_images
from convbench.data.types import Split
from convbench.errors import UserError
from tests.data.image_folder import ARGUMENTS, folder, write_classes, write_image


def names(split: Split | None) -> list[str]:
    assert split is not None
    return [split.names[row] for row in split.indices]


@pytest.fixture
def three_splits(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    write_classes(root / "train", {"cat": 20, "dog": 10})
    write_classes(root / "val", {"cat": 3, "dog": 2})
    write_classes(root / "test", {"cat": 2, "dog": 4})
    return root


@pytest.mark.parametrize(("image_size", "channels"), [(8, 3), (5, 1)])
def test_the_loaded_splits_have_the_properties_of_the_spec(three_splits: Path, image_size: int, channels: int) -> None:
    source = folder(three_splits, image_size=image_size, channels=channels)
    spec, splits = source.spec(), source.load()
    assert spec.classes == ("cat", "dog")
    assert splits.test is not None
    for split, count in ((splits.train, 30), (splits.val, 5), (splits.test, 6)):
        assert len(split) == count
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (spec.channels, spec.image_size, spec.image_size)
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        for row in split.indices:
            assert f"/{spec.classes[split.labels[row]]}/" in split.names[row]
    assert len(splits.mean) == len(splits.std) == channels


def test_each_name_belongs_to_its_own_pixels(three_splits: Path) -> None:
    splits = folder(three_splits).load()
    for split in (splits.train, splits.val, splits.test):
        assert split is not None
        for row in split.indices:
            pixels = write_image(three_splits / "again" / Path(split.names[row]).name)
            np.testing.assert_array_equal(split.images[row].permute(1, 2, 0), pixels)


def test_a_folder_of_class_folders_is_divided_into_three_stratified_splits(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 20, "dog": 10})
    splits = folder(tmp_path, val_fraction=0.2, test_fraction=0.3).load()
    parts = [names(splits.train), names(splits.val), names(splits.test)]
    assert [sum(name.startswith("cat") for name in part) for part in parts] == [10, 4, 6]
    assert [sum(name.startswith("dog") for name in part) for part in parts] == [5, 2, 3]
    assert len(set().union(*parts)) == 30
    assert splits.test is not None
    assert splits.train.images is splits.val.images is splits.test.images


def test_the_random_split_is_determined_by_split_seed(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 20, "dog": 10})
    first, again, other = (names(folder(tmp_path, split_seed=seed).load().test) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_without_a_folder_val_the_validation_images_are_taken_from_train(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 20, "dog": 10})
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    splits = folder(tmp_path, val_fraction=0.1).load()
    assert (len(splits.train), len(splits.val)) == (27, 3)
    assert all(name.startswith("train/") for name in names(splits.val))
    assert splits.train.images is splits.val.images
    assert names(splits.test) == ["test/cat/cat_000.png", "test/dog/dog_000.png"]


def test_without_a_folder_test_there_is_no_test_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    write_classes(tmp_path / "val", {"cat": 1, "dog": 1})
    splits = folder(tmp_path).load()
    assert splits.test is None
    assert len(splits.train) == 4


def test_an_unlabelled_test_split_has_images_and_names_but_no_labels(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 5, "dog": 5})
    write_image(tmp_path / "test" / "b.png")
    write_image(tmp_path / "test" / "a.png")
    test = folder(tmp_path).load().test
    assert test is not None
    assert test.labels is None
    assert names(test) == ["test/a.png", "test/b.png"]


def test_statistics_are_computed_from_the_training_images_only(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 20, "dog": 10})
    splits = folder(tmp_path).load()
    pixels = splits.train.images[splits.train.indices].double() / 255
    np.testing.assert_allclose(splits.mean, pixels.mean(dim=(0, 2, 3)))
    np.testing.assert_allclose(splits.std, pixels.std(dim=(0, 2, 3), correction=0))
    given = folder(tmp_path, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]).load()
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_the_spec_of_a_missing_folder_raises_an_error_with_the_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path / 'none'))} .*data\.root.*{ARGUMENTS['hint']}"):
        folder(tmp_path / "none").spec()


def test_the_error_for_a_corrupt_image_names_it_and_no_cache_is_written(three_splits: Path, tmp_path: Path) -> None:
    bad = three_splits / "val" / "dog" / "dog_001.png"
    bad.write_bytes(b"not an image")
    with pytest.raises(UserError, match=re.escape(str(bad))):
        folder(three_splits, cache=str(tmp_path / "cache")).load()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"image_size": 0}, r"=0 .*\(data\.image_size\)$"),
        ({"channels": 2}, r"=2 .*\(data\.channels\)$"),
        ({"val_fraction": 0}, r"=0 .*\(data\.val_fraction\)$"),
        ({"test_fraction": 1}, r"=1 .*\(data\.test_fraction\)$"),
        ({"channels": 1, "mean": [0.5] * 3, "std": [0.5] * 3}, r"1 channel.*\(data\.mean, data\.std\)$"),
    ],
)
def test_invalid_arguments_are_refused_before_any_file_is_read(changes: dict[str, Any], pattern: str) -> None:
    with pytest.raises(UserError, match=pattern):
        folder(Path("unused"), **changes)


def damage_content(path: Path) -> None:
    """Overwrite the content of a file, but keep its size and time, so that only reading it shows the damage."""
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_loading_a_folder_again_decodes_no_file(three_splits: Path, tmp_path: Path) -> None:
    first = folder(three_splits, cache=str(tmp_path / "cache")).load()
    for path in three_splits.rglob("*.png"):
        damage_content(path)
    second = folder(three_splits, cache=str(tmp_path / "cache")).load()
    assert torch.equal(first.train.images, second.train.images)
    assert first.mean == second.mean
    with pytest.raises(UserError, match=r"\.png .*\(data\.root\)$"):
        folder(three_splits).load()  # without the cache, the damaged files are read


def add(root: Path) -> None:
    write_image(root / "train" / "dog" / "new.png")


def remove(root: Path) -> None:
    (root / "train" / "dog" / "dog_003.png").unlink()


def touch(root: Path) -> None:
    os.utime(root / "val" / "dog" / "dog_000.png", ns=(1, 1))


def rename(root: Path) -> None:
    (root / "test" / "cat" / "cat_001.png").rename(root / "test" / "cat" / "other.png")


@pytest.mark.parametrize("change", [add, remove, touch, rename])
def test_after_any_file_has_changed_all_are_decoded_again_and_the_old_cache_is_deleted(
    three_splits: Path, tmp_path: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    folder(three_splits, cache=str(cache)).load()
    change(three_splits)
    splits = folder(three_splits, cache=str(cache)).load()
    assert torch.equal(splits.train.images, folder(three_splits).load().train.images)
    assert len(list(cache.iterdir())) == 1

    def fail_if_called(*_: object) -> None:
        raise AssertionError("the files were decoded")

    monkeypatch.setattr("convbench.data.folder.decode_files", fail_if_called)
    folder(three_splits, cache=str(cache)).load()
    os.utime(three_splits / "val" / "dog" / "dog_000.png", ns=(2, 2))
    with pytest.raises(AssertionError, match="files were decoded"):
        folder(three_splits, cache=str(cache)).load()


def test_a_renamed_file_is_detected_even_if_all_sizes_and_times_are_equal(tmp_path: Path) -> None:
    root, cache = tmp_path / "pets", str(tmp_path / "cache")
    for name in ("cat/a.bmp", "cat/b.bmp", "dog/c.bmp", "dog/d.bmp", "dog/e.bmp", "cat/f.bmp"):
        write_image(root / name)
        os.utime(root / name, ns=(1, 1))
    folder(root, cache=cache).load()
    (root / "cat" / "a.bmp").rename(root / "cat" / "z.bmp")
    assert torch.equal(folder(root, cache=cache).load().train.images, folder(root).load().train.images)


def test_each_image_size_and_number_of_channels_has_a_separate_cache(three_splits: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for changes in ({}, {"image_size": 6}, {"channels": 1}):
        for _ in range(2):
            splits = folder(three_splits, cache=str(cache), **changes).load()
            assert torch.equal(splits.train.images, folder(three_splits, **changes).load().train.images)
    assert len(list(cache.iterdir())) == 3


def test_a_damaged_cache_is_replaced_after_decoding_again(three_splits: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    good = folder(three_splits, cache=str(cache)).load()
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    assert torch.equal(folder(three_splits, cache=str(cache)).load().train.images, good.train.images)
    assert file.read_bytes() == content


def test_an_unwritable_cache_folder_causes_a_warning(
    three_splits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert len(folder(three_splits, cache=str(tmp_path / "file" / "cache")).load().train) == 30
    assert "(data.cache)" in caplog.text


def test_load_images_returns_the_images_of_a_folder_sorted_by_name(tmp_path: Path) -> None:
    expected = {name: write_image(tmp_path / name) for name in ("c.png", "a.png", "b.bmp")}
    write_image(tmp_path / "below" / "d.png")
    images, found = load_images(str(tmp_path), image_size=8, channels=3)
    assert found == ["a.png", "b.bmp", "c.png"]
    for image, name in zip(images, found, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), expected[name])


def test_the_error_of_load_images_names_a_missing_or_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path / 'none'))}.*\(images\)$"):
        load_images(str(tmp_path / "none"), 8, 3)
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path))} .*\(images\)$"):
        load_images(str(tmp_path), 8, 3)


@pytest.mark.slow
def test_loading_18_000_cached_images_takes_less_than_a_second(tmp_path: Path) -> None:
    root = Path(os.environ.get("CONVBENCH_DATA", "datasets")) / "dog_cat_bird"
    if not root.is_dir():
        pytest.skip(f"no folder {root}; set CONVBENCH_DATA to the folder that contains dog_cat_bird")
    constants = {"image_size": 32, "mean": [0.4943, 0.4704, 0.4180], "std": [0.2441, 0.2398, 0.2492]}
    folder(root, **constants, cache=str(tmp_path)).load()
    start = time.process_time()
    splits = folder(root, **constants, cache=str(tmp_path)).load()
    assert time.process_time() - start < 1
    assert len(splits.train) == 12_000
    computed = folder(root, image_size=32, cache=str(tmp_path)).load()
    np.testing.assert_allclose(computed.mean, constants["mean"], atol=1e-4)
    np.testing.assert_allclose(computed.std, constants["std"], atol=1e-4)
