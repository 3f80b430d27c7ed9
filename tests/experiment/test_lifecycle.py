"""The life of a run folder: interrupted and failed runs, and runs that are resumed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import TINY
from tests.experiment.runs import STOPPING_CONV, assert_same_weights, read_metrics, write_pictures

# What `results.json` records about each part of a run.
COMPUTED_KEYS = {
    "from_epoch", "code", "python", "convbench", "torch", "torchvision", "hydra-core", "numpy", "pillow", "device",
    "threads", "processes", "precision", "compiled", "implementations", "channels_last", "cuda_graph", "images",
    "accumulate", "shards", "deterministic",
}  # fmt: skip

# -- interrupted runs -------------------------------------------------------------------------------------------------

LONG_RUN = (*TINY[:-1], "epochs=40", "conv=dynamic", "augment=standard", "model.dropout=0.2", "engine.log_every=1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    start(folder).communicate()
    return folder / "run"


def start(where: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "convbench.train", *(arguments or (*LONG_RUN, "hydra.run.dir=run"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=where, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_metrics(folder: Path, rows: int, process: subprocess.Popen) -> None:
    path, deadline = folder / "metrics.jsonl", time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") >= rows):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_resumed_run_reproduces_the_uninterrupted_run(tmp_path, uninterrupted, kind):
    process = start(tmp_path)
    wait_for_metrics(tmp_path / "run", 3, process)
    process.send_signal(kind)
    output, _ = process.communicate(timeout=60)
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    if kind is signal.SIGKILL:
        assert result["status"] == "running"
    else:
        assert process.returncode == 130
        assert result["status"] == "interrupted"
        assert output.splitlines()[-1].endswith("python -m convbench.train resume=run")
    resumed = start(tmp_path, "resume=run")
    output, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, output
    assert_same_weights(tmp_path / "run", uninterrupted)
    rows, reference = read_metrics(tmp_path / "run"), read_metrics(uninterrupted)
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert [row["val_loss"] for row in rows] == [row["val_loss"] for row in reference]
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    best = json.loads((uninterrupted / "results.json").read_text())["best"]
    assert (result["status"], result["best"]) == ("finished", best)


# -- failed runs ------------------------------------------------------------------------------------------------------


def test_a_nan_loss_fails_the_run_with_exit_code_1(run_module, results):
    done = run_module("train", *TINY, "optimizer.lr=1e30", "schedule=constant")
    assert done.code == 1
    ((folder, result),) = results()
    assert result["status"] == "failed"
    assert "optimizer.lr" in result["error"]
    assert "DivergedError" in (folder / "traceback.txt").read_text()


# A convolution whose outputs become NaN after GOOD_PASSES batches of an evaluation.
LATE_NAN_CONV = """
import os
from torch import nn

class LateNan(nn.Conv2d):
    passes = 0

    def forward(self, x):
        self.passes += not self.training and len(x) == 16  # only batches; other passes determine shapes
        return super().forward(x) * (float("nan") if self.passes > int(os.environ["GOOD_PASSES"]) else 1)
"""


@pytest.mark.parametrize(
    ("passes", "where", "epochs"),
    [(2, "validation loss after epoch 2", 1), (4, "test loss of the last epoch", 2), (6, "test loss of the best", 2)],
)
def test_a_nan_in_an_evaluation_fails_the_run_and_keeps_the_epochs_before(
    run_here, results, tmp_path, monkeypatch, passes, where, epochs
):
    (tmp_path / "late.py").write_text(LATE_NAN_CONV)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GOOD_PASSES", str(passes))
    assert run_here("train", *TINY, "conv._target_=late.LateNan").code == 1
    ((folder, result),) = results()
    assert result["status"] == "failed"
    assert where in result["error"]
    assert result["epochs_done"] == len(read_metrics(folder)) == epochs
    assert math.isfinite(result["best"]["val"]["loss"])
    assert result["test"] is None
    saved = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert saved["progress"]["epoch"] == epochs


# -- resumed runs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stopping_conv(tmp_path, monkeypatch) -> str:
    """The override with a convolution that stops a run in its second epoch."""
    (tmp_path / "stopping.py").write_text(STOPPING_CONV)
    monkeypatch.syspath_prepend(tmp_path)
    return "conv._target_=stopping.Stopping"


def test_each_part_of_a_run_records_how_it_was_computed(run_here, results, monkeypatch, stopping_conv):
    """Between the two parts, the record is changed as if another version of PyTorch had written it."""
    run_here("train", *TINY, stopping_conv, "engine.threads=1")
    ((folder, result),) = results()
    assert (result["status"], result["epochs_done"]) == ("failed", 1)
    part = dict(result["computed"][0])
    assert set(part) == COMPUTED_KEYS
    assert (part["from_epoch"], part["threads"], part["precision"], part["images"]) == (0, 1, "none", "device")
    result["computed"][0] |= {"torch": "1.0", "threads": 64}
    (folder / "results.json").write_text(json.dumps(result))
    monkeypatch.setenv("CONTINUE", "1")
    done = run_here("train", f"resume={folder}")
    assert done.code == 0, done.err
    (warning,) = [line for line in done.out.splitlines() if "torch 1.0 -> " in line]
    assert f"torch 1.0 -> {part['torch']}, threads 64 -> 1" in warning
    first, second = json.loads((folder / "results.json").read_text())["computed"]
    assert (first["torch"], second) == ("1.0", part | {"from_epoch": 1})


def test_a_resumed_run_of_an_earlier_version_is_compared_with_its_record(run_here, results, monkeypatch, stopping_conv):
    run_here("train", *TINY, stopping_conv)
    ((folder, result),) = results()
    for key in ("computed", "images", "classes", "identity"):
        result.pop(key, None)
    (folder / "results.json").write_text(json.dumps(result | {"code": "another"}))
    monkeypatch.setenv("CONTINUE", "1")
    done = run_here("train", f"resume={folder}")
    assert done.code == 0, done.err
    assert "code another -> " in done.out
    first, second = json.loads((folder / "results.json").read_text())["computed"]
    assert (first["from_epoch"], first["code"], first["compiled"]) == (0, "another", False)
    assert (second["from_epoch"], set(second)) == (1, COMPUTED_KEYS)


@pytest.fixture
def stopped_on_pictures(run_here, results, tmp_path, monkeypatch, stopping_conv) -> Path:
    """A run on class folders that stopped in its second epoch, and does not stop once it is resumed."""
    root = write_pictures(tmp_path / "pictures")
    arguments = (*TINY[3:], "data=folder", f"data.root={root}", "data.image_size=16", "batch_size=8")
    run_here("train", *arguments, stopping_conv)
    monkeypatch.setenv("CONTINUE", "1")
    assert results()[0][1]["epochs_done"] == 1
    return results()[0][0]


def test_a_run_resumes_with_its_own_images_if_the_folder_has_moved_and_has_more(
    run_here, results, stopped_on_pictures, tmp_path
):
    _, before = results()[0]
    assert before["images"] == {"train": 32, "val": 4, "test": 4}
    root = tmp_path / "pictures"
    (root / "dog" / "0.png").write_bytes((root / "cat" / "00.png").read_bytes())
    root.rename(tmp_path / "elsewhere")
    done = run_here("train", f"resume={stopped_on_pictures}", f"data.root={tmp_path / 'elsewhere'}")
    assert done.code == 0, done.err
    assert "dog/0.png" in done.out
    ((folder, after),) = results()
    assert (after["status"], after["images"]) == ("finished", before["images"])
    assert after["identity"] == before["identity"]
    assert OmegaConf.load(folder / "config.yaml").data.root == str(tmp_path / "elsewhere")


def test_changed_images_are_refused_and_the_run_can_still_be_resumed(run_here, results, stopped_on_pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copy(root / "cat" / "00.png", root / "cat" / "01.png")
    done = run_here("train", f"resume={stopped_on_pictures}")
    assert done.code == 2
    assert "cat/01.png" in done.err
    assert (results()[0][1]["status"], results()[0][1]["epochs_done"]) == ("interrupted", 1)
    assert (stopped_on_pictures / "checkpoints" / "last.pt").exists()


def test_a_finished_run_a_missing_run_and_other_keys_cannot_be_resumed(run_here, results, tmp_path):
    run_here("train", *TINY, "epochs=1")
    ((folder, result),) = results()
    done = run_here("train", f"resume={folder}")
    assert (done.code, str(folder) in done.err, "(resume)" in done.err) == (2, True, True)
    done = run_here("train", "resume=nowhere")
    assert (done.code, "nowhere" in done.err, "(resume)" in done.err) == (2, True, True)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    done = run_here("train", "resume=empty")
    assert (done.code, "empty" in done.err, "(resume)" in done.err) == (2, True, True)
    done = run_here("train", f"resume={folder}", "epochs=5")
    assert (done.code, "epochs=5" in done.err) == (2, True)
    assert results() == [(folder, result)]


def test_a_new_run_does_not_overwrite_the_run_in_its_folder(run_here, tmp_path):
    assert run_here("train", *TINY, "hydra.run.dir=run").code == 0
    before = (tmp_path / "run" / "results.json").read_text()
    done = run_here("train", *TINY, "conv=dynamic", "hydra.run.dir=run")
    assert (done.code, "resume=run" in done.err, "(hydra.run.dir)" in done.err) == (2, True, True)
    assert (tmp_path / "run" / "results.json").read_text() == before
