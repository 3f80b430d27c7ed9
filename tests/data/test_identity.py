"""The data of a run are loaded again, or an error names the difference."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch

from convbench.data.identity import Identity, RecordedSource, identify
from convbench.data.shapes import Shapes
from convbench.errors import UserError
from tests.data.image_folder import folder, write_classes, write_image

SHAPES = {"image_size": 16, "train": 20, "val": 10, "test": 10, "seed": 0, "mean": None, "std": None, "flip": True}


def identity_of(source) -> Identity:
    """The identity after writing it to JSON and reading it, as for a run folder."""
    recorded = json.loads(json.dumps(asdict(identify(source.spec(), source.load()))))
    files = recorded.pop("files")
    return Identity.from_json(recorded, files)


def files_of(splits) -> dict[str, list[str]]:
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: [split.names[row] for row in split.indices.tolist()] for name, split in parts.items() if split}


@pytest.fixture
def pets(tmp_path):
    write_classes(tmp_path / "pets", {"cat": 10, "dog": 10})
    return tmp_path / "pets"


def test_an_identity_records_the_properties_and_files_of_the_images(pets):
    known = identity_of(folder(pets))
    assert (known.classes, known.channels, known.image_size) == (("cat", "dog"), 3, 8)
    assert {name: split.images for name, split in known.splits.items()} == {"train": 12, "val": 4, "test": 4}
    assert known.files is not None
    assert {name: listed.names for name, listed in known.files.items()} == files_of(folder(pets).load())
    assert all((pets / name).stat().st_size == size for name, size in zip(
        known.files["val"].names, known.files["val"].sizes, strict=True
    ))  # fmt: skip
    assert identity_of(folder(pets)) == known


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_digest_of_a_split_depends_on_its_images_labels_and_order(pets, tmp_path, on_disk):
    source = folder(pets, on_disk=on_disk, cache=str(tmp_path / "cache"))
    loaded = source.load()

    def digest(**changes):
        changed = replace(loaded, test=replace(loaded.test, **changes))
        return identify(source.spec(), changed).splits["test"].digest

    plain = digest()
    assert digest() == plain
    assert digest(indices=loaded.test.indices.flip(0)) != plain
    assert digest(labels=1 - loaded.test.labels) != plain
    if on_disk:
        assert digest(sizes=[size + 1 for size in loaded.test.sizes]) != plain
    else:
        assert digest(images=loaded.test.images ^ 1) != plain


@pytest.mark.parametrize("on_disk", [False, True])
def test_files_added_later_are_skipped_with_a_warning(pets, tmp_path, caplog, on_disk):
    options = {"on_disk": on_disk, "cache": str(tmp_path / "cache")}
    before, known = folder(pets, **options).load(), identity_of(folder(pets, **options))
    write_image(pets / "cat" / "another.png")
    write_classes(pets, {"bird": 3})
    assert files_of(folder(pets, **options).load())["train"] != files_of(before)["train"]
    source = RecordedSource(folder(pets, **options), known)
    after = source.load()
    assert source.spec().classes == ("cat", "dog")
    assert files_of(after) == files_of(before)
    assert (after.mean, after.std) == (before.mean, before.std)
    for name in ("train", "val", "test"):
        old, new = getattr(before, name), getattr(after, name)
        assert torch.equal(old.images[old.indices], new.images[new.indices])
        assert torch.equal(old.labels[old.indices], new.labels[new.indices])
    assert "4 files" in caplog.text
    assert "bird/bird_000.png" in caplog.text


def test_split_folders_with_unlabelled_test_images_are_loaded_again(tmp_path):
    for split in ("train", "val"):
        write_classes(tmp_path / "pets" / split, {"cat": 3, "dog": 3})
    for index in range(3):
        write_image(tmp_path / "pets" / "test" / f"{index}.png")
    before, known = folder(tmp_path / "pets").load(), identity_of(folder(tmp_path / "pets"))
    write_image(tmp_path / "pets" / "test" / "0a.png")
    after = RecordedSource(folder(tmp_path / "pets"), known).load()
    assert files_of(after) == files_of(before)
    assert after.test.labels is None
    assert torch.equal(after.val.labels[after.val.indices], before.val.labels)


def test_a_moved_folder_is_accepted_if_its_images_are_unchanged(pets, tmp_path):
    known, before = identity_of(folder(pets)), files_of(folder(pets).load())
    pets.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"data\.root"):
        RecordedSource(folder(pets), known).load()
    assert files_of(RecordedSource(folder(tmp_path / "elsewhere"), known).load()) == before


def test_the_error_names_renamed_classes_and_missing_or_changed_files(pets, tmp_path):
    known = identity_of(folder(pets))

    def error_after(change) -> str:
        other = tmp_path / change.__name__
        shutil.copytree(pets, other)
        change(other)
        with pytest.raises(UserError) as error:
            RecordedSource(folder(other), known).load()
        return str(error.value)

    def renamed(root):
        (root / "cat").rename(root / "katze")

    def missing(root):
        (root / "dog" / "dog_003.png").unlink()

    def changed(root):
        shutil.copy(root / "dog" / "dog_003.png", root / "dog" / "dog_004.png")

    message = error_after(renamed)
    assert "cat" in message
    assert "katze" in message
    assert "dog/dog_003.png" in error_after(missing)
    assert "dog/dog_004.png" in error_after(changed)


def test_changed_pixels_of_unchanged_files_are_only_a_warning_if_the_version_of_pillow_differs(pets, caplog):
    known = identity_of(folder(pets))
    assert known.files is not None
    files = known.files | {"val": replace(known.files["val"], digests=["0" * 16] * 4)}
    other = replace(known, files=files, splits=known.splits | {"val": replace(known.splits["val"], digest="0" * 32)})
    with pytest.raises(UserError, match=r"4 val images"):
        RecordedSource(folder(pets), other).load()
    RecordedSource(folder(pets), replace(other, pillow="1.0")).load()
    assert "4 val images" in caplog.text
    assert "1.0" in caplog.text


def test_images_that_are_not_files_are_compared_by_digest():
    known = identity_of(Shapes(**SHAPES))
    assert known.files is None
    RecordedSource(Shapes(**SHAPES), known).load()
    with pytest.raises(UserError, match=r"train .*data\.root"):
        RecordedSource(Shapes(**SHAPES | {"seed": 1}), known).load()
    with pytest.raises(UserError, match=r"val .*10 .*12"):
        RecordedSource(Shapes(**SHAPES | {"val": 12}), known).load()
