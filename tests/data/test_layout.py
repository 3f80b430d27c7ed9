import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from convbench.data.decode import EXTENSIONS
from convbench.data.layout import check_layout, scan
from convbench.errors import UserError
from tests.data.image_folder import write_classes, write_image


def message(root: Path, layout: str = "auto") -> str:
    with pytest.raises(UserError) as error:
        scan(root, "put it there", layout)
    return str(error.value)


def test_classes_are_sorted_and_define_the_labels_of_every_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"dog": 3, "bird": 2, "cat": 1})
    write_classes(tmp_path / "val", {"dog": 1, "cat": 1})
    layout = scan(tmp_path, "")
    assert layout.classes == ("bird", "cat", "dog")
    assert layout.groups["train"].labels == [0, 0, 1, 2, 2, 2]
    assert layout.groups["val"].labels == [1, 2]
    assert [file.name for file in layout.groups["val"].files] == ["val/cat/cat_000.png", "val/dog/dog_000.png"]
    assert list(layout.groups) == ["train", "val"]
    assert not layout.flat


def test_a_folder_of_class_folders_is_one_group(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 3})
    layout = scan(tmp_path, "")
    assert layout.flat
    assert layout.groups["train"].labels == [0, 0, 1, 1, 1]
    assert layout.groups["train"].files[0].name == "a/a_000.png"


def test_other_files_and_hidden_entries_are_skipped(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    write_image(tmp_path / "a" / ".thumbnail.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git").mkdir()
    layout = scan(tmp_path, "")
    assert layout.classes == ("a", "b")
    assert len(layout.groups["train"].files) == 2


def test_a_test_folder_without_class_folders_is_unlabelled(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    for name in ("2.png", "10.png"):
        write_image(tmp_path / "test" / name)
    test = scan(tmp_path, "").groups["test"]
    assert test.labels is None
    assert [file.name for file in test.files] == ["test/10.png", "test/2.png"]


def test_a_folder_with_another_name_of_a_split_is_skipped_with_advice_to_rename_it(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / "Validation", {"a": 1, "b": 1})
    write_classes(tmp_path / "extra", {"a": 1, "b": 1})
    layout = scan(tmp_path, "")
    assert list(layout.groups) == ["train"]
    assert layout.left_out.names["folders other than train, val and test"] == ["Validation", "extra"]
    assert layout.advice == ("rename 'Validation' to 'val'",)


@pytest.mark.parametrize("layout", ["auto", "split"])
@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "valid"), ("TRAIN", "val"), ("train_set", "dev")])
def test_split_folders_with_other_names_are_not_used_as_classes(
    tmp_path: Path, names: tuple[str, str], layout: str
) -> None:
    for name in names:
        write_classes(tmp_path / name, {"a": 1, "b": 1})
        write_image(tmp_path / name / "beside.png")  # so that the folder could be a class folder
    error = message(tmp_path, layout)
    assert f"rename '{names[0]}' to 'train'" in error
    assert "data.layout=flat" in error
    assert scan(tmp_path, "", "flat").classes == tuple(sorted(names))


def test_a_single_class_with_the_name_of_a_split_is_accepted(tmp_path: Path) -> None:
    write_classes(tmp_path, {"valid": 1, "broken": 1})
    assert scan(tmp_path, "").classes == ("broken", "valid")


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_flat_folder_may_have_a_class_with_the_name_of_a_split(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {name: 2, "plane": 1})
    assert "data.layout=flat" in message(tmp_path)
    layout = scan(tmp_path, "", "flat")
    assert layout.classes == tuple(sorted((name, "plane")))
    assert len(layout.groups["train"].files) == 3


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.layout"):
        check_layout("deep")


def test_skipped_entries_are_counted_by_kind_in_one_line(tmp_path: Path) -> None:
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
    (tmp_path / "train" / "a" / ".DS_Store").write_bytes(b"")  # files of file managers are skipped without a message
    (tmp_path / "train" / "labels.csv").write_text("a file next to class folders is skipped without a message")
    write_image(tmp_path / "top.png")
    layout = scan(tmp_path, "")
    assert {kind: sorted(names) for kind, names in layout.left_out.names.items() if names} == {
        "images outside train, val and test": ["top.png"],
        "images outside class folders": ["train/beside.png"],
        "hidden files and folders": ["train/__MACOSX", "train/b/._x.png"],
        "broken links and special files": ["train/a/gone.png", "train/a/loop.png"],
        "folders inside class folders": ["train/a/more"],
        "files with an unsupported extension": [
            *(f"train/b/{number}.heic" for number in range(5)),
            "train/b/no_ending",
        ],
    }
    (line,) = layout.remarks()
    assert "extension: 6 (train/b/0.heic, train/b/1.heic, train/b/2.heic, ...)" in line


def test_a_folder_without_skipped_entries_has_no_remarks(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    assert scan(tmp_path, "").remarks() == []


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "dib", "pnm", "PNG"])
def test_all_usual_extensions_are_recognised(tmp_path: Path, suffix: str) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / f"x.{suffix}").write_bytes(b"")
    assert f"a/x.{suffix}" in [file.name for file in scan(tmp_path, "").groups["train"].files]


def test_the_error_for_a_class_without_images_lists_its_other_files(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.heic").write_bytes(b"")
    assert "b/photo.heic" in message(tmp_path)


@pytest.mark.parametrize(("ours", "theirs"), [("cat", "Cat"), ("caf\u00e9", "cafe\u0301"), ("stra\u00dfe", "STRASSE")])
def test_classes_that_differ_only_in_case_or_unicode_normalisation_are_named(
    tmp_path: Path, ours: str, theirs: str
) -> None:
    write_classes(tmp_path / "train", {ours: 1, "dog": 1})
    write_classes(tmp_path / "test", {theirs: 1, "dog": 1})
    assert f"'{ours}'" in message(tmp_path)
    assert f"'{theirs}'" in message(tmp_path)
    write_classes(tmp_path / "train", {theirs: 1})
    (remark,) = scan(tmp_path, "").remarks()
    assert ours in remark
    assert theirs in remark


def test_links_to_class_folders_are_followed_but_links_inside_them_are_skipped(tmp_path: Path) -> None:
    write_classes(tmp_path / "elsewhere", {"a": 2})
    write_classes(tmp_path / "set", {"b": 1})
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "set" / "b" / "up").symlink_to(tmp_path / "set")
    layout = scan(tmp_path / "set", "")
    assert layout.groups["train"].labels == [0, 0, 1]
    assert layout.left_out.names["folders inside class folders"] == ["b/up"]


def test_the_error_for_an_unreadable_folder_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})

    def refuse(folder: Path) -> Iterator[os.DirEntry[str]]:
        if folder.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr("os.scandir", refuse)  # file permissions have no effect if root runs the tests
    error = message(tmp_path)
    assert str(tmp_path / "b") in error
    assert "(data.root)" in error


def test_the_error_for_a_missing_folder_names_it_and_gives_the_hint(tmp_path: Path) -> None:
    error = message(tmp_path / "none")
    for fact in (str(tmp_path / "none"), "(data.root)", "put it there"):
        assert fact in error


def test_a_val_folder_without_train_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", {"a": 1, "b": 1})
    error = message(tmp_path)
    for fact in ("'train'", "'val'", "data.layout=flat", "(data.root)"):
        assert fact in error


@pytest.mark.parametrize("under", [".", "train"])
def test_the_error_for_an_empty_class_names_it_and_the_supported_extensions(tmp_path: Path, under: str) -> None:
    write_classes(tmp_path / under, {"a": 1, "b": 1})
    (tmp_path / under / "c").mkdir()
    error = message(tmp_path)
    for fact in (str(tmp_path / under / "c"), *EXTENSIONS, "(data.root)"):
        assert fact in error


def test_a_single_class_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"only": 2})
    error = message(tmp_path)
    for fact in (str(tmp_path / "train"), "one class", "'only'", "(data.root)"):
        assert fact in error


def test_a_folder_without_class_folders_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "a.png")
    error = message(tmp_path)
    for fact in (str(tmp_path / "train"), "no class folders", "data.layout=flat", "(data.root)"):
        assert fact in error
    (tmp_path / "empty").mkdir()
    error = message(tmp_path / "empty")
    for fact in (str(tmp_path / "empty"), "no class folders", "(data.root)"):
        assert fact in error


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_error_for_a_class_that_train_does_not_have_names_it(tmp_path: Path, split: str) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / split, {"a": 1, "z": 1})
    error = message(tmp_path)
    for fact in (str(tmp_path / split), "'z'", "a, b", "(data.root)"):
        assert fact in error


def test_a_val_folder_without_class_folders_and_a_test_folder_without_images_are_errors(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    (tmp_path / "test").mkdir()
    error = message(tmp_path)
    for fact in (str(tmp_path / "test"), "no images", "(data.root)"):
        assert fact in error
    write_image(tmp_path / "val" / "a.png")
    error = message(tmp_path)
    for fact in (str(tmp_path / "val"), "no class folders", "(data.root)"):
        assert fact in error
