"""Training runs, from the command line to the files they leave."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import TINY

RESULT_KEYS = {
    "status", "error", "config_hash", "data", "conv", "model", "seed", "params", "macs", "epochs", "seconds_total",
    "seconds_per_epoch", "images_per_second", "train", "val", "best", "test", "device", "versions",
}  # fmt: skip
COMPUTED_KEYS = {
    "from_epoch", "code", "python", "convbench", "torch", "torchvision", "hydra-core", "numpy", "pillow", "device",
    "threads", "processes", "precision", "compiled", "implementations", "channels_last", "cuda_graph", "images",
    "accumulate", "shards", "deterministic",
}  # fmt: skip
METRICS_KEYS = {
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "temperature", "seconds",
    "images_per_second",
}  # fmt: skip


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_folder_with_everything_about_it(run_here, results):
    done = run_here("train", *TINY, "conv=weighted_sum")
    assert done.code == 0
    ((folder, result),) = results()
    assert set(result) >= RESULT_KEYS
    assert result["status"] == "finished"
    assert (result["data"], result["conv"], result["model"], result["seed"]) == ("shapes", "weighted_sum", "resnet8", 0)
    assert set(result["val"]) == set(result["best"]["val"]) == {"loss", "accuracy"}
    assert set(result["best"]) == {"epoch", "val", "test"}
    for score in (result["test"], result["best"]["test"]):
        assert set(score) == {"loss", "accuracy", "correct", "images", "predicted_classes"}
        assert score["images"] == 20
        assert score["correct"] == round(20 * score["accuracy"])
        assert 1 <= score["predicted_classes"] <= 10
    assert result["images"] == {"train": 64, "val": 20, "test": 20}
    assert (len(result["classes"]), result["classes"][0]) == (10, "arrow")
    rows = metrics(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [4, 8]
    assert all(set(row) == METRICS_KEYS for row in rows)
    assert result["val"] == {"loss": rows[-1]["val_loss"], "accuracy": rows[-1]["val_accuracy"]}
    assert (folder / "config.yaml").read_text().count("WeightedSumConv2d") == 1
    assert "train.log" in os.listdir(folder)
    for name in ("last.pt", "best.pt"):
        torch.load(folder / "checkpoints" / name, weights_only=True)
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(folder))


def test_the_terminal_shows_what_was_composed_and_a_row_an_epoch(run_here):
    lines = run_here("train", *TINY, "conv=dynamic").out.splitlines()
    text = "\n".join(lines)
    assert lines[0] == "convbench: data=shapes conv=dynamic model=resnet seed=0"
    assert "64 train, 20 val, 20 test; 3x16x16, 10 classes" in text
    assert re.search(r"resnet8: [\d,]+ parameters, [\d.]+ [kMG] MACs an image", text)
    assert "skipped: conv1 (first)" in text
    assert re.search(r"^device +cpu \(\d+ threads?\), float32, channels_last, eager$", text, re.M)
    rows = [line for line in lines if re.match(r" +[12] +\d", line)]
    assert len(rows) == 2
    head = lines[lines.index(rows[0]) - 2 : lines.index(rows[0])]
    assert all(word in head[0] for word in ("epoch", "train", "val", "lr", "temp.", "time", "images/s"))
    assert all(len(line) <= 80 for line in [*rows, *head])
    assert re.search(r"^test   last epoch +loss [\d.]+  accuracy [\d.]+ %$", text, re.M)


def test_tensorboard_events_have_the_same_tags_for_every_run_on_an_axis_of_images(run_here, results):
    run_here("train", *TINY, "conv=dynamic", "engine.log_every=1", "temperature.epochs=1")
    ((folder, _),) = results()
    events = EventAccumulator(str(folder)).Reload()
    tags = {"loss/train", "loss/val", "accuracy/train", "accuracy/val", "lr", "temperature", "speed/images_per_second"}
    scores = {"params", "macs", "seconds_per_epoch", "val_loss", "val_accuracy", "test_loss", "test_accuracy"}
    tags |= {f"final/{score}" for score in scores}  # of the tab HPARAMS
    assert {tag for tag in events.Tags()["scalars"] if not tag.startswith("routing")} == tags
    assert [event.step for event in events.Scalars("loss/val")] == [64, 128]
    temperatures = [event.value for event in events.Scalars("temperature")]
    assert temperatures[0] == 30.0
    assert temperatures[-1] == 1.0
    assert temperatures == sorted(temperatures, reverse=True)


@pytest.mark.parametrize("conv", ["standard", "weighted_sum", "dynamic"])
def test_a_look_inside_shows_pictures_and_routing_and_leaves_the_run_as_it_was(run_here, results, conv):
    for watch in ("true", "false"):
        arguments = (*TINY, f"conv={conv}", "model.dropout=0.2", "augment=standard", f"engine.watch={watch}")
        assert run_here("train", *arguments).code == 0
    runs = {OmegaConf.load(folder / "config.yaml").engine.watch: folder for folder, _ in results()}
    assert_same_weights(runs[True], runs[False])
    tags = {watch: EventAccumulator(str(folder)).Reload().Tags() for watch, folder in runs.items()}
    assert tags[False]["images"] == []
    assert not any(tag.startswith("routing") for tag in tags[False]["scalars"])
    features = {f"features/layer{stage}.0.conv2" for stage in (1, 2, 3)}
    assert set(tags[True]["images"]) == {"probe", "kernels/first_layer"} | features
    new = set(tags[True]["scalars"]) - set(tags[False]["scalars"])
    assert all(tag.startswith("routing") for tag in new)
    # the first convolution stays a standard one
    assert len([tag for tag in new if tag.startswith("routing_entropy/")]) == (8 if conv == "dynamic" else 0)


def test_the_default_conv_learns_the_default_data(run_here, results):
    assert run_here("train", "epochs=3", "data.train=600", "data.val=200", "data.test=200", "batch_size=32",
                    "model.depth=8", "augment=none", "data.image_size=16").code == 0  # fmt: skip
    rows = metrics(results()[0][0])
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.1


def test_two_runs_of_one_command_give_the_same_bits(run_here, results):
    for _ in range(2):
        assert run_here("train", *TINY, "augment=standard", "model.dropout=0.1").code == 0
    (first, a), (second, b) = results()
    assert a["config_hash"] == b["config_hash"]
    assert_same_weights(first, second)


def test_the_conv_changes_neither_the_other_weights_nor_the_batches(run_here, results, tmp_path):
    """With a learning rate of almost nothing the weights that are saved are the initial ones."""
    for conv in ("standard", "weighted_sum", "from_scratch"):
        run_here("train", *TINY, f"conv={conv}", "optimizer.lr=1e-12", "optimizer.weight_decay=0")
    by_conv = {result["conv"]: torch.load(folder / "checkpoints/last.pt") for folder, result in results()}
    weights = {conv: state["training"]["network"] for conv, state in by_conv.items()}
    torch.testing.assert_close(weights["standard"]["fc.weight"], weights["weighted_sum"]["fc.weight"])
    assert weights["standard"].keys() == weights["from_scratch"].keys()
    for name, value in weights["standard"].items():
        if "weight" in name:
            torch.testing.assert_close(value, weights["from_scratch"][name])


def test_dynamic_implementations_train_to_the_same_losses(run_here, results):
    names = ("grouped", "mix_after", "scaled_inputs", "unfold")
    for name in names:
        run_here("train", *TINY, "conv=dynamic", f"conv.implementation={name}", "augment=standard")
    rows = [metrics(folder) for folder, _ in results()]
    assert len(rows) == len(names)
    for other in rows[1:]:
        for mine, reference in zip(other, rows[0], strict=True):
            assert mine["train_loss"] == pytest.approx(reference["train_loss"], rel=1e-4)
            assert mine["val_loss"] == pytest.approx(reference["val_loss"], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle", "step"])
def test_every_optimizer_and_schedule_trains(run_here, results, optimizer, schedule):
    done = run_here("train", *TINY, f"optimizer={optimizer}", f"schedule={schedule}", "schedule.warmup_epochs=0.5")
    assert done.code == 0
    assert math.isfinite(results()[0][1]["train"]["loss"])


@pytest.mark.parametrize("augment", ["none", "standard", "mixup", "cutmix"])
def test_every_augmentation_trains_and_repeats(run_here, results, augment):
    for _ in range(2):
        assert run_here("train", *TINY, f"augment={augment}", "epochs=1", "label_smoothing=0.1").code == 0
    assert_same_weights(*(folder for folder, _ in results()))


def test_bf16_and_channels_first_train(run_here, results):
    assert run_here("train", *TINY, "engine.autocast=bf16", "conv=dynamic").code == 0
    assert run_here("train", *TINY, "engine.channels_last=false", "conv=weighted_sum").code == 0
    assert all(result["status"] == "finished" for _, result in results())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, and gpu_report.py checks graphs on it")
def test_a_cuda_graph_without_a_gpu_is_refused(run_here):
    done = run_here("train", *TINY, "engine.cuda_graph=true")
    assert (done.code, done.out.count("epoch")) == (2, 0)
    assert done.err.endswith("needs one process on a GPU, not 1 on cpu; give false (engine.cuda_graph)\n")


@pytest.mark.slow
def test_a_compiled_run_comes_to_the_losses_of_an_eager_one_with_plain_weight_names(run_here, results):
    for compiled in ("true", "false"):
        arguments = (*TINY, "conv=dynamic", "model.dropout=0.2", f"engine.compile={compiled}")
        assert run_here("train", *arguments).code == 0
    (first, a), (second, b) = results()
    assert a["val"]["loss"] == pytest.approx(b["val"]["loss"], rel=1e-3)
    keys = [torch.load(folder / "checkpoints/best.pt")["network"].keys() for folder in (first, second)]
    assert keys[0] == keys[1]


# Stops the run in its second epoch of four steps, unless GOES_ON is set.
STOPS = """
import os
from torch import nn

class Stops(nn.Conv2d):
    steps = 0

    def forward(self, x):
        if self.training and x.requires_grad:
            self.steps += 1
            if self.steps == 6 and "GOES_ON" not in os.environ:
                raise RuntimeError("stopped")
        return super().forward(x)
"""

# -- stop and go on ---------------------------------------------------------------------------------------------------

STOPPABLE = (*TINY[:-1], "epochs=40", "conv=dynamic", "augment=standard", "model.dropout=0.2", "engine.log_every=1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    start(folder).communicate()
    return folder / "run"


def start(where: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "convbench.train", *(arguments or (*STOPPABLE, "hydra.run.dir=run"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=where, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_rows(folder: Path, count: int, process: subprocess.Popen) -> None:
    path, deadline = folder / "metrics.jsonl", time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") >= count):
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = (torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["training"] for folder in (first, second))
    assert a["network"].keys() == b["network"].keys()
    for name, value in a["network"].items():
        assert torch.equal(value, b["network"][name]), name
    for mine, other in zip(a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True):
        assert torch.equal(mine["momentum_buffer"], other["momentum_buffer"])


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_resume_reproduces_the_uninterrupted_run(tmp_path, uninterrupted, kind):
    process = start(tmp_path)
    wait_for_rows(tmp_path / "run", 3, process)
    process.send_signal(kind)
    said, _ = process.communicate(timeout=60)
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    if kind is signal.SIGKILL:
        assert result["status"] == "running"
    else:
        assert process.returncode == 130
        assert result["status"] == "interrupted"
        assert said.splitlines()[-1] == "interrupted; go on with: python -m convbench.train resume=run"
    resumed = start(tmp_path, "resume=run")
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    assert_same_weights(tmp_path / "run", uninterrupted)
    rows, reference = metrics(tmp_path / "run"), metrics(uninterrupted)
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert [row["val_loss"] for row in rows] == [row["val_loss"] for row in reference]
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    best = json.loads((uninterrupted / "results.json").read_text())["best"]
    assert (result["status"], result["best"]) == ("finished", best)


def test_each_part_of_a_run_says_how_it_was_computed_and_what_has_changed(run_here, results, monkeypatch, tmp_path):
    """The run stops in its second epoch, and its record is then changed as another version would have written it."""
    (tmp_path / "stops.py").write_text(STOPS)
    monkeypatch.syspath_prepend(tmp_path)
    run_here("train", *TINY, "conv._target_=stops.Stops", "engine.threads=1")
    ((folder, result),) = results()
    assert (result["status"], result["epochs_done"]) == ("failed", 1)
    part = dict(result["computed"][0])
    assert set(part) == COMPUTED_KEYS
    assert (part["from_epoch"], part["threads"], part["precision"], part["images"]) == (0, 1, "none", "device")
    result["computed"][0] |= {"torch": "1.0", "threads": 64}
    (folder / "results.json").write_text(json.dumps(result))
    monkeypatch.setenv("GOES_ON", "1")
    done = run_here("train", f"resume={folder}")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "not computed as" in line]
    assert f"torch 1.0 -> {part['torch']}, threads 64 -> 1" in line
    first, second = json.loads((folder / "results.json").read_text())["computed"]
    assert (first["torch"], second) == ("1.0", part | {"from_epoch": 1})


def test_a_run_of_an_earlier_version_is_compared_with_what_it_recorded(run_here, results, monkeypatch, tmp_path):
    (tmp_path / "stops.py").write_text(STOPS)
    monkeypatch.syspath_prepend(tmp_path)
    run_here("train", *TINY, "conv._target_=stops.Stops")
    ((folder, result),) = results()
    for key in ("computed", "images", "classes", "identity"):
        result.pop(key, None)
    (folder / "results.json").write_text(json.dumps(result | {"code": "another"}))
    monkeypatch.setenv("GOES_ON", "1")
    done = run_here("train", f"resume={folder}")
    assert done.code == 0, done.err
    assert "code another -> " in done.out
    first, second = json.loads((folder / "results.json").read_text())["computed"]
    assert (first["from_epoch"], first["code"], first["compiled"]) == (0, "another", False)
    assert (second["from_epoch"], set(second)) == (1, COMPUTED_KEYS)


@pytest.fixture
def stopped_on_pictures(run_here, results, tmp_path, monkeypatch) -> Path:
    """A run on class folders that stopped in its second epoch; it would go on."""
    (tmp_path / "stops.py").write_text(STOPS)
    monkeypatch.syspath_prepend(tmp_path)
    root = image_folder(tmp_path / "pictures")
    arguments = (*TINY[3:], "data=folder", f"data.root={root}", "data.image_size=16", "batch_size=8")
    run_here("train", *arguments, "conv._target_=stops.Stops")
    monkeypatch.setenv("GOES_ON", "1")
    assert results()[0][1]["epochs_done"] == 1
    return results()[0][0]


def test_a_folder_that_has_grown_and_moved_is_gone_on_with_as_it_was(run_here, results, stopped_on_pictures, tmp_path):
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


def test_other_data_are_refused_and_the_run_can_still_go_on(run_here, results, stopped_on_pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copy(root / "cat" / "00.png", root / "cat" / "01.png")
    done = run_here("train", f"resume={stopped_on_pictures}")
    assert done.code == 2
    assert "cat/01.png" in done.err
    assert (results()[0][1]["status"], results()[0][1]["epochs_done"]) == ("interrupted", 1)
    assert (stopped_on_pictures / "checkpoints" / "last.pt").exists()


def test_a_job_of_a_sweep_goes_on_with_data_sets_in_another_place(run_here, results, monkeypatch, tmp_path):
    (tmp_path / "stops.py").write_text(STOPS)
    monkeypatch.syspath_prepend(tmp_path)
    image_folder(tmp_path / "here" / "pictures")
    arguments = (*TINY[3:], "data=folder", "data.root=${datasets}/pictures", "data.image_size=16", "batch_size=8")
    arguments = ("-m", *arguments, "conv._target_=stops.Stops", "sweep=moved", "sweep.report=false", "seed=0,1")
    run_here("train", *arguments, f"datasets={tmp_path / 'here'}")
    for folder, result in results():
        assert result["epochs_done"] == 1
        (folder / "results.json").write_text(json.dumps(result | {"status": "interrupted"}))
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setenv("GOES_ON", "1")
    assert run_here("train", *arguments, f"datasets={tmp_path / 'there'}").code == 0
    assert [result["status"] for _, result in results()] == ["finished", "finished"]
    assert [len(result["computed"]) for _, result in results()] == [2, 2]


def test_resume_of_a_finished_run_or_of_no_run_or_with_other_keys_is_refused(run_here, results, tmp_path):
    run_here("train", *TINY, "epochs=1")
    ((folder, _),) = results()
    done = run_here("train", f"resume={folder}")
    assert (done.code, done.err) == (2, f"error: {folder} is finished, there is nothing to resume (resume)\n")
    done = run_here("train", "resume=nowhere")
    assert done.code == 2
    assert "there is no folder nowhere" in done.err
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    assert "empty is not a run folder" in run_here("train", "resume=empty").err
    done = run_here("train", f"resume={folder}", "epochs=5")
    assert done.code == 2
    assert "keeps its own configuration, so epochs=5 cannot be given" in done.err


def test_a_folder_that_holds_a_run_already_is_not_written_over(run_here, tmp_path):
    assert run_here("train", *TINY, "hydra.run.dir=run").code == 0
    before = (tmp_path / "run" / "results.json").read_text()
    done = run_here("train", *TINY, "conv=dynamic", "hydra.run.dir=run")
    assert (done.code, done.err) == (2, "error: run holds a run already: resume=run goes on with it (hydra.run.dir)\n")
    assert (tmp_path / "run" / "results.json").read_text() == before


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model.depth=15"], "resnet has no depth 15; choose 8, 14, 20,"),
        (["schedule=step", "schedule.milestones=[0.9,0.5]"], "milestones [0.9, 0.5] must be rising shares"),
        (["conv=weighted_sum", "conv.groups=3"], "must both be divisible by groups 3 (conv.groups)"),
        (
            ["model.stem=7x7", "model.depth=18", "data.image_size=16"],
            "images of 16x16 are too small for this network, which needs at least 32x32",
        ),
        (["data=mnist", "model.in_channels=3"], "the images have 1 channel, but the stem takes 3"),
        (
            ["conv=weighted_sum", "conv.implementation=fft"],
            "weighted_sum has no implementation 'fft'; choose linear, pointwise, folded, fused or auto",
        ),
        (["conv.skip=[layer9.*]"], "the selector 'layer9.*' matches no conv"),
        (["conv._target_=nowhere.MyConv2d"], "'nowhere.MyConv2d' cannot be imported"),
        (["augment.crop_padding=40"], "a crop padding of 40 cannot be reflected in an image of 32 pixels"),
        (["batch_size=9000"], "a batch of 9000 is larger than the 4000 training images (batch_size)"),
        (["model.num_classes=3"], "the network has 3 outputs for 10 classes"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence_and_exit_code_2(run_here, results, arguments, sentence):
    done = run_here("train", *arguments)
    assert done.code == 2
    assert sentence in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    ((_, result),) = results()
    assert result["status"] == "failed"
    assert sentence in result["error"]


def image_folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (root / kind).mkdir(parents=True)
        for index in range(20):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(root / kind / f"{index:02}.png")
    return root


def test_a_missing_folder_an_empty_class_and_a_corrupt_image_are_named(run_here, tmp_path):
    done = run_here("train", "data=folder", "data.root=nowhere")
    assert done.code == 2
    assert "nowhere" in done.err
    assert "data.root" in done.err
    root = image_folder(tmp_path / "pictures")
    (root / "bird").mkdir()
    done = run_here("train", "data=folder", f"data.root={root}")
    assert done.code == 2
    assert "bird" in done.err
    (root / "bird").rmdir()
    (root / "dog" / "07.png").write_bytes(b"no picture")
    done = run_here("train", "data=folder", f"data.root={root}", "batch_size=4")
    assert done.code == 2
    assert str(Path("dog") / "07.png") in done.err


def test_a_run_on_a_folder_of_images_trains(run_here, results, tmp_path):
    root = image_folder(tmp_path / "pictures")
    done = run_here("train", *TINY[3:], "data=folder", f"data.root={root}", "data.image_size=16", "batch_size=8")
    assert done.code == 0, done.err
    assert results()[0][1]["data"] == "folder"


def test_a_loss_that_is_no_number_fails_the_run_with_exit_code_1(run_module, results):
    done = run_module("train", *TINY, "optimizer.lr=1e30", "schedule=constant")
    assert done.code == 1
    ((folder, result),) = results()
    assert result["status"] == "failed"
    assert "a smaller optimizer.lr" in result["error"]
    assert "DivergedError" in (folder / "traceback.txt").read_text()


# Its running statistics, so to speak, hold for so many batches of an evaluation and are no numbers from then on.
FAILS_LATE = """
import os
from torch import nn

class FailsLate(nn.Conv2d):
    passes = 0

    def forward(self, x):
        self.passes += not self.training and len(x) == 16  # a batch: other passes look at shapes
        return super().forward(x) * (float("nan") if self.passes > int(os.environ["GOOD_PASSES"]) else 1)
"""


@pytest.mark.parametrize(
    ("passes", "said", "epochs"),
    [(2, "validation loss after epoch 2", 1), (4, "test loss of the last epoch", 2), (6, "test loss of the best", 2)],
)
def test_an_evaluation_that_is_no_number_fails_the_run_and_keeps_the_epochs_before(
    run_here, results, tmp_path, monkeypatch, passes, said, epochs
):
    (tmp_path / "late.py").write_text(FAILS_LATE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GOOD_PASSES", str(passes))
    assert run_here("train", *TINY, "conv._target_=late.FailsLate").code == 1
    ((folder, result),) = results()
    assert result["status"] == "failed"
    assert said in result["error"]
    assert result["epochs_done"] == len(metrics(folder)) == epochs
    assert math.isfinite(result["best"]["val"]["loss"])
    assert result["test"] is None
    saved = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert saved["progress"]["epoch"] == epochs


def test_a_users_own_class_trains_under_its_own_name(run_module, results, tmp_path):
    (tmp_path / "my_package.py").write_text(
        "from torch import nn\n\n\nclass MyConv2d(nn.Conv2d):\n"
        "    def forward(self, x):\n        return super().forward(x) * 0.5\n"
    )
    done = run_module("train", *TINY, "conv._target_=my_package.MyConv2d")
    assert done.code == 0, done.err
    assert "15 of 15" not in done.out  # a ResNet-8 has 9
    assert results()[0][1]["conv"] == "MyConv2d"
