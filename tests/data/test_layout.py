import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from convbench.data.layout import check_layout, scan
from convbench.errors import UserError
from tests.data.image_folder import write_classes, write_image


def message(root: Path, layout: str = "auto") -> str:
    with pytest.raises(UserError) as error:
        scan(root, "put it there", layout)
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


def test_a_folder_beside_the_splits_is_left_out_and_its_right_name_is_given(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / "Validation", {"a": 1, "b": 1})
    write_classes(tmp_path / "extra", {"a": 1, "b": 1})
    layout = scan(tmp_path, "")
    assert list(layout.groups) == ["train"]
    assert layout.left_out.names["folders beside train, val and test"] == ["Validation", "extra"]
    assert layout.advice == ("rename 'Validation' to 'val'",)


@pytest.mark.parametrize("layout", ["auto", "split"])
@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "valid"), ("TRAIN", "val"), ("train_set", "dev")])
def test_splits_under_other_names_are_not_taken_for_classes(
    tmp_path: Path, names: tuple[str, str], layout: str
) -> None:
    for name in names:
        write_classes(tmp_path / name, {"a": 1, "b": 1})
        write_image(tmp_path / name / "beside.png")  # so that it could pass for a class
    said = message(tmp_path, layout)
    assert f"rename '{names[0]}' to 'train'" in said
    assert "data.layout=flat" in said
    assert scan(tmp_path, "", "flat").classes == tuple(sorted(names))


def test_a_class_that_is_called_like_one_split_is_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, {"valid": 1, "broken": 1})
    assert scan(tmp_path, "").classes == ("broken", "valid")


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_flat_folder_may_have_a_class_called_train(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {name: 2, "plane": 1})
    assert "data.layout=flat" in message(tmp_path)
    layout = scan(tmp_path, "", "flat")
    assert layout.classes == tuple(sorted((name, "plane")))
    assert len(layout.groups["train"].files) == 3


def test_a_layout_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.layout"):
        check_layout("deep")


def test_what_is_left_out_is_counted_by_kind_in_one_line(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_image(tmp_path / "train" / "a" / "more" / "x.png")
    for number in range(5):
        (tmp_path / "train" / "b" / f"{number}.heic").write_bytes(b"")
    (tmp_path / "train" / "b" / "no_ending").write_bytes(b"")
    write_image(tmp_path / "train" / "b" / "._x.png")
    write_image(tmp_path / "train" / "__MACOSX" / "x.png")
    write_image(tmp_path / "train" / "beside.png")
    (tmp_path / "train" / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "train" / "a" / "loop.png").symlink_to("loop.png")
    (tmp_path / "train" / "a" / ".DS_Store").write_bytes(b"")  # what file managers leave is nobody's loss
    (tmp_path / "train" / "labels.csv").write_text("beside classes there may be lists")
    write_image(tmp_path / "top.png")
    layout = scan(tmp_path, "")
    assert {kind: sorted(names) for kind, names in layout.left_out.names.items() if names} == {
        "images beside train, val and test": ["top.png"],
        "images beside the folders of classes": ["train/beside.png"],
        "hidden names": ["train/__MACOSX", "train/b/._x.png"],
        "broken links and special files": ["train/a/gone.png", "train/a/loop.png"],
        "folders inside those of classes": ["train/a/more"],
        "files with another ending": [*(f"train/b/{number}.heic" for number in range(5)), "train/b/no_ending"],
    }
    (line,) = layout.remarks()
    assert "files with another ending: 6 (train/b/0.heic, train/b/1.heic, train/b/2.heic, ...)" in line


def test_a_folder_of_which_nothing_is_left_out_needs_no_remark(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    assert scan(tmp_path, "").remarks() == []


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "dib", "pnm", "PNG"])
def test_every_usual_ending_of_the_formats_is_taken(tmp_path: Path, suffix: str) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / f"x.{suffix}").write_bytes(b"")
    assert f"a/x.{suffix}" in [file.name for file in scan(tmp_path, "").groups["train"].files]


def test_an_empty_class_says_what_it_holds_instead(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.heic").write_bytes(b"")
    assert "b/photo.heic" in message(tmp_path)


@pytest.mark.parametrize(("ours", "theirs"), [("cat", "Cat"), ("caf\u00e9", "cafe\u0301"), ("stra\u00dfe", "STRASSE")])
def test_classes_that_differ_in_case_or_unicode_form_are_named(tmp_path: Path, ours: str, theirs: str) -> None:
    write_classes(tmp_path / "train", {ours: 1, "dog": 1})
    write_classes(tmp_path / "test", {theirs: 1, "dog": 1})
    assert f"'{ours}'" in message(tmp_path)
    assert f"'{theirs}'" in message(tmp_path)
    write_classes(tmp_path / "train", {theirs: 1})
    (remark,) = scan(tmp_path, "").remarks()
    assert ours in remark
    assert theirs in remark


def test_links_to_folders_of_classes_are_followed_and_those_to_folders_above_are_not_walked(tmp_path: Path) -> None:
    write_classes(tmp_path / "elsewhere", {"a": 2})
    write_classes(tmp_path / "set", {"b": 1})
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "set" / "b" / "up").symlink_to(tmp_path / "set")
    layout = scan(tmp_path / "set", "")
    assert layout.groups["train"].labels == [0, 0, 1]
    assert layout.left_out.names["folders inside those of classes"] == ["b/up"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})

    def refuse(folder: Path) -> Iterator[os.DirEntry[str]]:
        if folder.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr("os.scandir", refuse)  # permissions mean nothing to root, who may run the tests
    said = message(tmp_path)
    assert str(tmp_path / "b") in said
    assert "data.root" in said


def test_a_missing_folder_is_named_with_the_hint(tmp_path: Path) -> None:
    assert message(tmp_path / "none") == f"there is no folder {tmp_path / 'none'} (data.root): put it there"


def test_a_val_folder_without_train_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", {"a": 1, "b": 1})
    said = message(tmp_path)
    assert "no folder called 'train'" in said
    assert "'val'" in said
    assert "data.root" in said


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
    assert message(tmp_path).startswith(f"{tmp_path / 'train'} holds images, but no folders of classes (data.root)")
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
