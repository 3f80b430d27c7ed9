import logging
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from convbench.data.duplicates import warn_about_duplicates
from convbench.data.types import Split
from tests.data.image_folder import folder, write_classes


def split(name: str, *values: int, labels: list[int] | None = None) -> Split:
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    names = [f"{name}/{row}" for row in range(len(values))]
    chosen = torch.zeros(len(values), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return Split(images, chosen, torch.arange(len(values)), names)


def warnings_of(caplog: pytest.LogCaptureFixture, **splits: Split) -> list[str]:
    caplog.set_level(logging.WARNING)
    warn_about_duplicates("pets", splits)
    return caplog.messages


def test_images_in_two_splits_are_counted_in_one_warning_with_examples(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = warnings_of(caplog, train=split("train", 1, 2, 3), val=split("val", 3, 4), test=split("test", 2, 2, 4, 5))
    assert re.search(r"2 of 4 test images [^;]*train \(test/0 = train/1", line)
    assert re.search(r"1 of 4 test images [^;]*val \(test/2 = val/1\)", line)
    assert re.search(r"1 of 2 val images [^;]*train \(val/0 = train/2\)", line)


def test_training_images_in_two_classes_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    train = split("train", 1, 2, 2, 3, 3, 2, labels=[0, 0, 1, 1, 1, 0])
    (line,) = warnings_of(caplog, train=train, val=split("val", 9))
    assert "1 train images" in line
    assert "train/1 = train/2" in line


def test_different_images_and_duplicates_within_a_class_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(caplog, train=split("train", 1, 1, 2), val=split("val", 3), test=split("test", 4, 4)) == []


def test_a_copied_file_is_found_after_decoding_and_after_reading_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "pets"
    write_classes(root / "train", {"cat": 4, "dog": 4})
    write_classes(root / "val", {"cow": 2, "cat": 0})
    (root / "val" / "cow").rename(root / "val" / "cat")
    write_classes(root / "test" / "cat", {"x": 1})
    (root / "test" / "cat" / "x" / "x_000.png").rename(root / "test" / "cat" / "x.png")
    (root / "test" / "cat" / "x").rmdir()
    shutil.copy(root / "train" / "cat" / "cat_002.png", root / "test" / "cat" / "copy.png")
    for _ in range(2):
        caplog.clear()
        folder(root, cache=str(tmp_path / "cache")).load()
        (line,) = caplog.messages
        assert "1 of 2 test images" in line
        assert "test/cat/copy.png = train/cat/cat_002.png" in line


@pytest.mark.slow
def test_finding_duplicates_among_70_000_images_takes_less_than_three_seconds() -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (70_000, 3, 32, 32), dtype=np.uint8))
    rows, labels = torch.arange(70_000), torch.zeros(70_000, dtype=torch.int64)
    names = [str(row) for row in range(70_000)]
    parts = [Split(images, labels, part, names) for part in rows.split([50_000, 10_000, 10_000])]
    start = time.process_time()
    warn_about_duplicates("noise", dict(zip(("train", "val", "test"), parts, strict=True)))
    took = time.process_time() - start
    print(f"{took:.2f} s")
    assert took < 3
