"""The memory of a training run on CIFAR-10, measured by the operating system as the peak resident set size."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Trains as the command line does, with the checksums of CIFAR-10 replaced by those of the files of the test.
TRAIN = """
import json, resource, sys
from torchvision import datasets
files = json.loads(sys.argv.pop(1))
datasets.CIFAR10.train_list = [entry for entry in files if entry[0].startswith("data_batch")]
datasets.CIFAR10.test_list = [entry for entry in files if entry[0] == "test_batch"]
datasets.CIFAR10.meta = {"filename": "batches.meta", "key": "label_names", "md5": dict(files)["batches.meta"]}
from convbench.cli.main import run_command
from convbench.train import train
run_command("train", train)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
# Most images are validation images, which take less time per epoch but the same memory as training images.
SETTINGS = (
    "data=cifar10",
    "datasets=.",
    "data.val_fraction=0.9",
    "model.depth=8",
    "batch_size=256",
    "engine.threads=1",
)


def write_cifar10(root: Path, images: int) -> str:
    """Write six batches of random images in the format of CIFAR-10; return their names and checksums as JSON."""
    folder, rng, listed = root / "cifar-10-batches-py", np.random.default_rng(0), []
    folder.mkdir(parents=True)
    contents = {
        "batches.meta": {
            "label_names": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        }
    }
    for name in (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (images, 3072), np.uint8)
        contents[name] = {"data": pixels, "labels": [row % 10 for row in range(images)]}
    for name, content in contents.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        listed.append([name, hashlib.md5(data).hexdigest()])
    return str(listed).replace("'", '"')


def peak_memory_of_a_run(root: Path, images: int, epochs: int) -> int:
    command = [sys.executable, "-c", TRAIN, write_cifar10(root, images), *SETTINGS, f"epochs={epochs}"]
    # This makes glibc return freed memory to the system at once, so that the peak does not include unused memory.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_cifar10_adds_less_than_1_3_times_its_size_to_the_memory_of_network_and_batch(tmp_path):
    """A run with as many steps on few images gives the memory of the process, the network and its activations."""
    without_data = peak_memory_of_a_run(tmp_path / "small", images=600, epochs=19)
    with_data = peak_memory_of_a_run(tmp_path / "full", images=10_000, epochs=1)
    dataset_bytes = (60_000 - 6 * 600) * 3 * 32 * 32
    print(f"{(with_data - without_data) / dataset_bytes:.2f} times the bytes of the data set")
    assert with_data - without_data <= 1.3 * dataset_bytes
