from pathlib import Path

import pytest
import torch

from convbench.data.cache import TensorCache

IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)


def test_a_written_tensor_is_read_back_unchanged(tmp_path: Path) -> None:
    TensorCache(tmp_path / "new", "slot", "key").write(IMAGES)
    found = TensorCache(tmp_path / "new", "slot", "key").read()
    assert found is not None
    assert torch.equal(found, IMAGES)
    found += 1  # the tensor is a writable copy in memory


def test_another_key_and_an_empty_folder_are_cache_misses_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert TensorCache(tmp_path, "slot", "key").read() is None
    TensorCache(tmp_path, "slot", "key").write(IMAGES)
    assert TensorCache(tmp_path, "slot", "other").read() is None
    assert caplog.messages == []


def test_a_slot_holds_only_the_tensor_written_last(tmp_path: Path) -> None:
    for key in ("old", "new"):
        TensorCache(tmp_path, "slot", key).write(IMAGES)
    TensorCache(tmp_path, "other slot", "new").write(IMAGES)
    assert len(list(tmp_path.iterdir())) == 2
    assert TensorCache(tmp_path, "slot", "old").read() is None
    assert TensorCache(tmp_path, "slot", "new").read() is not None


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "empty", "garbage", "no header"])
def test_a_damaged_cache_is_ignored_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TensorCache(tmp_path, "slot", "key")
    cache.write(IMAGES)
    content = cache.path.read_bytes()
    damaged = {
        "cut": content[:-5],
        "longer": content + b"x",
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "garbage": b"\x80\xff" * 3000,
        "no header": b"[]\n" + content,
    }
    cache.path.write_bytes(damaged[damage])
    assert cache.read() is None
    assert str(cache.path) in caplog.text


def test_a_folder_that_cannot_be_written_causes_a_warning_with_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    TensorCache(tmp_path / "file", "slot", "key").write(IMAGES)
    assert str(tmp_path / "file") in caplog.text
    assert "(data.cache)" in caplog.text


def test_a_failed_write_keeps_the_old_cache_and_leaves_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TensorCache(tmp_path, "slot", "key")
    cache.write(IMAGES)

    def fail_with_full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail_with_full_disk)
    TensorCache(tmp_path, "slot", "new").write(IMAGES)
    assert list(tmp_path.iterdir()) == [cache.path]
    assert cache.read() is not None
    assert "no space left on device" in caplog.text
