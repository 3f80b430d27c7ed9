import re
from pathlib import Path

import pytest

from convbench.data.layout import scan
from convbench.errors import UserError
from tests.data.image_folder import write_classes, write_image


def message(root: Path) -> str:
    with pytest.raises(UserError) as error:
        scan(root, "put it there")
    return str(error.value)


def test_classes_are_sorted_and_labels_follow_them_in_every_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"dog": 3, "bird": 2, "cat": 1})
    write_classes(tmp_path / "val", {"dog": 1, "cat": 1})
    layout = scan(tmp_path, "")
    assert layout.classes == ("bird", "cat", "dog")
    assert layout.groups["train"].labels == [0, 0, 1, 2, 2, 2]
    assert layout.groups["val"].labels == [1, 2]
    assert [file.name for file in layout.groups["val"].files] == ["val/cat/cat_000.png", "val/dog/dog_000.png"]
    assert list(layout.groups) == ["train", "val"]
    assert not layout.flat


def test_class_folders_alone_are_one_group(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 3})
    layout = scan(tmp_path, "")
    assert layout.flat
    assert layout.groups["train"].labels == [0, 0, 1, 1, 1]
    assert layout.groups["train"].files[0].name == "a/a_000.png"


def test_files_beside_the_images_and_hidden_ones_do_not_count(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    write_image(tmp_path / "a" / ".thumbnail.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git").mkdir()
    layout = scan(tmp_path, "")
    assert layout.classes == ("a", "b")
    assert len(layout.groups["train"].files) == 2


def test_a_test_folder_of_plain_files_is_unlabelled(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    for name in ("2.png", "10.png"):
        write_image(tmp_path / "test" / name)
    test = scan(tmp_path, "").groups["test"]
    assert test.labels is None
    assert [file.name for file in test.files] == ["test/10.png", "test/2.png"]


def test_a_folder_beside_the_splits_is_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / "validation", {"a": 1, "b": 1})
    assert list(scan(tmp_path, "").groups) == ["train"]
    assert caplog.messages == [f"{tmp_path}: ignoring validation; the folders of a dataset are train, val, test"]


def test_a_missing_folder_is_named_with_the_hint(tmp_path: Path) -> None:
    assert message(tmp_path / "none") == f"there is no folder {tmp_path / 'none'} (data.root): put it there"


def test_a_val_folder_without_train_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", {"a": 1, "b": 1})
    assert message(tmp_path) == f"{tmp_path} has a folder 'val' but none called 'train' (data.root)"


@pytest.mark.parametrize("under", [".", "train"])
def test_an_empty_class_is_named(tmp_path: Path, under: str) -> None:
    write_classes(tmp_path / under, {"a": 1, "b": 1})
    (tmp_path / under / "c").mkdir()
    expected = (
        rf"^the class folder {re.escape(str(tmp_path / under / 'c'))} holds no images; known are .*\(data.root\)$"
    )
    assert re.match(expected, message(tmp_path))


def test_a_single_class_is_not_enough(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"only": 2})
    assert message(tmp_path).startswith(f"{tmp_path / 'train'} holds only one class, 'only'")


def test_a_folder_without_classes_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "a.png")
    assert message(tmp_path) == f"{tmp_path / 'train'} holds no folders of classes (data.root)"
    (tmp_path / "empty").mkdir()
    assert message(tmp_path / "empty") == f"{tmp_path / 'empty'} holds no folders of classes (data.root)"


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_lacks_is_named(tmp_path: Path, split: str) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / split, {"a": 1, "z": 1})
    expected = f"{tmp_path / split} has a class 'z' that train lacks; its classes are a, b (data.root)"
    assert message(tmp_path) == expected


def test_a_val_folder_without_classes_and_a_test_folder_without_images_are_errors(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    (tmp_path / "test").mkdir()
    assert message(tmp_path) == f"{tmp_path / 'test'} holds no images (data.root)"
    write_image(tmp_path / "val" / "a.png")
    assert message(tmp_path) == f"{tmp_path / 'val'} holds no folders of classes (data.root)"
