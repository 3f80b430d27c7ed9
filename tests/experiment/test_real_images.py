"""The accuracies and times that the README states; image data sets are read from the folder in CONVBENCH_DATA."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

DATASETS = Path(os.environ.get("CONVBENCH_DATA", "datasets")).absolute()


def train(folder, *arguments):
    """Train in a separate process with all cores; return the content of `results.json`."""
    command = [sys.executable, "-m", "convbench.train", *arguments, f"datasets={DATASETS}", "hydra.run.dir=run"]
    subprocess.run(command, cwd=folder, check=True)
    return json.loads((folder / "run" / "results.json").read_text())


def needs(name):
    return pytest.mark.skipif(not (DATASETS / name).is_dir(), reason=f"{DATASETS} holds no {name} (CONVBENCH_DATA)")


def test_the_first_line_appears_within_5_seconds(tmp_path):
    start = time.monotonic()
    command = [sys.executable, "-m", "convbench.train", "epochs=1", "data.train=200"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("convbench: data=shapes conv=standard")
        assert time.monotonic() - start < 5
        process.kill()


@pytest.mark.slow
def test_three_epochs_with_the_defaults_exceed_60_percent_within_90_seconds(tmp_path):
    start = time.monotonic()
    result = train(tmp_path, "epochs=3")
    assert time.monotonic() - start < 90
    assert result["test"]["accuracy"] > 0.6


@pytest.mark.slow
@needs("MNIST")
def test_mnist_reaches_98_5_percent_in_two_epochs(tmp_path):
    assert train(tmp_path, "data=mnist", "epochs=2")["test"]["accuracy"] >= 0.985


@pytest.mark.slow
@needs("dog_cat_bird")
@pytest.mark.parametrize("conv", ["standard", "weighted_sum"])
def test_the_dog_cat_bird_network_reaches_74_percent_in_ten_epochs(tmp_path, conv):
    result = train(tmp_path, "experiment=dog_cat_bird", f"conv={conv}", "epochs=10", "engine.compile=true")
    assert result["test"]["accuracy"] >= 0.74
