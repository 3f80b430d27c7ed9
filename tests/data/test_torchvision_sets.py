import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from convbench.data.torchvision_sets import TorchvisionSet
from convbench.errors import UserError
from tests.data.http_source import HttpSource, serve

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ARGUMENTS: dict[str, Any] = {
    "dataset": "CIFAR10",
    "root": "unused",
    "sources": [],
    "image_size": None,
    "val_fraction": 0.1,
    "split_seed": 0,
    "mean": None,
    "std": None,
    "flip": True,
}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpSource]:
    """A server of a small CIFAR-10 of 5 x 40 + 40 images; torchvision is patched to expect its checksums."""
    random = np.random.default_rng(0)
    files = {}
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        data = random.integers(0, 256, (40, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": data, "labels": [row % 10 for row in range(40)]})
    files["batches.meta"] = pickle.dumps({"label_names": CLASSES})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    of = datasets.CIFAR10
    monkeypatch.setattr(of, "tgz_md5", md5(packed.getvalue()))
    monkeypatch.setattr(of, "train_list", [[name, md5(files[name])] for name in files if name.startswith("data")])
    monkeypatch.setattr(of, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(of, "meta", {**of.meta, "md5": md5(files["batches.meta"])})
    with serve(HttpSource({of.filename: packed.getvalue()})) as source:
        yield source


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpSource]:
    """A server of a small MNIST of 200 + 50 images; torchvision is patched to expect its checksums."""
    random = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 200), ("t10k", 50)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = struct.pack(">4i", 2051, count, 28, 28) + pixels.tobytes()
        files[f"{part}-labels-idx1-ubyte.gz"] = struct.pack(">2i", 2049, count) + labels.tobytes()
    files = {name: gzip.compress(content) for name, content in files.items()}
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, md5(content)) for name, content in files.items()])
    with serve(HttpSource(files)) as source:
        yield source


def make(root: Path, **changes: Any) -> TorchvisionSet:
    return TorchvisionSet(**{**ARGUMENTS, "root": str(root), **changes})


def check_against_spec(source: TorchvisionSet) -> None:
    spec, splits = source.spec(), source.load()
    assert splits.test is not None
    assert len(splits.mean) == len(splits.std) == spec.channels
    for split in (splits.train, splits.val, splits.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (spec.channels, spec.image_size, spec.image_size)
        assert split.images.is_contiguous()
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        assert int(split.labels.max()) == len(spec.classes) - 1
        assert len(split.names) == len(split.labels) == len(split.images)


def test_cifar_is_downloaded_once_and_then_read_from_disk(cifar: HttpSource, tmp_path: Path) -> None:
    first = make(tmp_path, sources=[cifar.url]).load()
    assert len(cifar.requests) == 1
    again = make(tmp_path, sources=[]).load()
    assert torch.equal(first.train.images, again.train.images)
    assert first.train.labels is not None
    assert (len(first.train), len(first.val)) == (180, 20)


def test_cifar_pixels_are_equal_to_those_of_the_files(cifar: HttpSource, tmp_path: Path) -> None:
    train = make(tmp_path, sources=[cifar.url]).load().train
    with (tmp_path / "cifar-10-batches-py" / "data_batch_2").open("rb") as file:
        batch = pickle.load(file)
    assert train.labels is not None
    np.testing.assert_array_equal(train.images[40:80].flatten(1), batch["data"])
    assert train.labels[40:80].tolist() == batch["labels"]
    assert train.names[41] == "train/00041"


def test_train_and_val_share_one_tensor_but_no_image(cifar: HttpSource, tmp_path: Path) -> None:
    splits = make(tmp_path, sources=[cifar.url]).load()
    assert splits.train.images is splits.val.images
    assert splits.train.labels is splits.val.labels
    assert sorted(torch.cat([splits.train.indices, splits.val.indices]).tolist()) == list(range(200))


def test_the_second_source_is_used_if_the_first_has_a_wrong_file(cifar: HttpSource, tmp_path: Path) -> None:
    with serve(HttpSource({datasets.CIFAR10.filename: b"something else"})) as wrong:
        make(tmp_path, sources=[f"{wrong.url}mirror", cifar.url]).load()
    assert len(wrong.requests) == len(cifar.requests) == 1


def test_an_archive_downloaded_by_hand_is_extracted_without_a_source(cifar: HttpSource, tmp_path: Path) -> None:
    name = datasets.CIFAR10.filename
    (tmp_path / name).write_bytes(cifar.files[name])
    check_against_spec(make(tmp_path, sources=[]))


def test_a_damaged_batch_file_is_extracted_again(cifar: HttpSource, tmp_path: Path) -> None:
    good = make(tmp_path, sources=[cifar.url]).load()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"damaged")
    assert torch.equal(make(tmp_path, sources=[]).load().train.images, good.train.images)


def test_the_error_for_unreachable_sources_gives_the_path_that_torchvision_reads(
    mnist: HttpSource, tmp_path: Path
) -> None:
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    mnist.files.clear()
    with pytest.raises(UserError, match=rf"{re.escape(str(path))} .*\(data\.sources\)$"):
        make(tmp_path, dataset="MNIST", sources=[mnist.url]).load()


@pytest.mark.parametrize("image_size", [None, 32, 20])
def test_the_loaded_splits_of_cifar_have_the_properties_of_the_spec(
    cifar: HttpSource, tmp_path: Path, image_size: int | None
) -> None:
    check_against_spec(make(tmp_path, sources=[cifar.url], image_size=image_size))


@pytest.mark.parametrize("image_size", [None, 32])
def test_the_loaded_splits_of_mnist_have_the_properties_of_the_spec(
    mnist: HttpSource, tmp_path: Path, image_size: int | None
) -> None:
    check_against_spec(make(tmp_path, dataset="MNIST", sources=[mnist.url], image_size=image_size))
    assert len(mnist.requests) == 4


def test_resizing_in_chunks_gives_the_same_pixels_as_resizing_all_images_at_once(
    cifar: HttpSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = make(tmp_path, sources=[cifar.url], image_size=20).load().train.images
    monkeypatch.setattr("convbench.data.torchvision_sets._RESIZE_CHUNK", 7)
    assert torch.equal(make(tmp_path, image_size=20).load().train.images, at_once)


def test_the_error_for_truncated_files_gives_the_folder_and_the_key(mnist: HttpSource, tmp_path: Path) -> None:
    source = make(tmp_path, dataset="MNIST", sources=[mnist.url])
    source.load()
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"MNIST .*{re.escape(str(tmp_path))} .*\(data\.root\)$"):
        source.load()


def test_given_statistics_are_used_and_missing_ones_are_computed(cifar: HttpSource, tmp_path: Path) -> None:
    given = make(tmp_path, sources=[cifar.url], mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]).load()
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    computed = make(tmp_path).load()
    pixels = computed.train.images[computed.train.indices].double() / 255
    np.testing.assert_allclose(computed.mean, pixels.mean(dim=(0, 2, 3)))


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"dataset": "SVHN"}, r"=SVHN .*CIFAR10, CIFAR100, MNIST, FashionMNIST .*\(data\.dataset\)$"),
        ({"val_fraction": 1.0}, r"=1\.0 .*\(data\.val_fraction\)$"),
        ({"image_size": 0}, r"=0 .*\(data\.image_size\)$"),
        ({"dataset": "MNIST", "mean": [0.5] * 3, "std": [0.5] * 3}, r"1 channel.*\(data\.mean, data\.std\)$"),
    ],
)
def test_invalid_arguments_are_refused_before_any_file_is_read(changes: dict[str, Any], pattern: str) -> None:
    with pytest.raises(UserError, match=pattern):
        make(Path("unused"), **changes)


def test_the_class_names_are_equal_to_those_of_torchvision() -> None:
    fashion = make(Path("unused"), dataset="FashionMNIST").spec().classes
    assert fashion == tuple(datasets.FashionMNIST.classes)
    cifar100 = make(Path("unused"), dataset="CIFAR100").spec().classes
    assert len(set(cifar100)) == 100
    assert list(cifar100) == sorted(cifar100)
    assert make(Path("unused")).spec().classes == tuple(CLASSES)


def test_the_spec_does_not_import_torchvision() -> None:
    code = (
        "import sys; from convbench.data.torchvision_sets import TorchvisionSet; "
        f"TorchvisionSet(**{ARGUMENTS}).spec(); print('torchvision' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "mean", "std"), [("MNIST", 0.1307, 0.3081), ("FashionMNIST", 0.2860, 0.3530)])
def test_the_original_files_have_the_statistics_of_the_yaml_file(dataset: str, mean: float, std: float) -> None:
    root = Path(os.environ.get("CONVBENCH_DATA", "datasets"))
    if not (root / dataset).is_dir():
        pytest.skip(f"no {dataset} in {root}; set CONVBENCH_DATA to the folder that contains it")
    splits = make(root, dataset=dataset).load()
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (54_000, 6_000, 10_000)
    np.testing.assert_allclose([splits.mean[0], splits.std[0]], [mean, std], atol=2e-4)
