"""`convbench.train` from the command line to the files of the run folder."""

import math
import os
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import TINY
from tests.experiment.runs import assert_same_weights, read_metrics, write_pictures

RESULT_KEYS = {
    "status", "error", "config_hash", "data", "conv", "model", "seed", "params", "macs", "epochs", "seconds_total",
    "seconds_per_epoch", "images_per_second", "train", "val", "best", "test", "device", "versions",
}  # fmt: skip
METRICS_KEYS = {
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "temperature", "seconds",
    "images_per_second",
}  # fmt: skip


def test_a_run_folder_contains_configuration_results_metrics_and_checkpoints(run_here, results):
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
    rows = read_metrics(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [4, 8]
    assert all(set(row) == METRICS_KEYS for row in rows)
    assert result["val"] == {"loss": rows[-1]["val_loss"], "accuracy": rows[-1]["val_accuracy"]}
    assert (folder / "config.yaml").read_text().count("WeightedSumConv2d") == 1
    assert "train.log" in os.listdir(folder)
    for name in ("last.pt", "best.pt"):
        torch.load(folder / "checkpoints" / name, weights_only=True)
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(folder))


def test_the_terminal_shows_a_description_of_the_run_and_one_row_per_epoch(run_here):
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


def test_tensorboard_events_have_the_same_tags_for_every_run_and_count_images(run_here, results):
    run_here("train", *TINY, "conv=dynamic", "engine.log_every=1", "temperature.epochs=1")
    ((folder, _),) = results()
    events = EventAccumulator(str(folder)).Reload()
    tags = {"loss/train", "loss/val", "accuracy/train", "accuracy/val", "lr", "temperature", "speed/images_per_second"}
    scores = {"params", "macs", "seconds_per_epoch", "val_loss", "val_accuracy", "test_loss", "test_accuracy"}
    tags |= {f"final/{score}" for score in scores}  # for the tab HPARAMS
    assert {tag for tag in events.Tags()["scalars"] if not tag.startswith("routing")} == tags
    assert [event.step for event in events.Scalars("loss/val")] == [64, 128]
    temperatures = [event.value for event in events.Scalars("temperature")]
    assert temperatures[0] == 30.0
    assert temperatures[-1] == 1.0
    assert temperatures == sorted(temperatures, reverse=True)


@pytest.mark.parametrize("conv", ["standard", "weighted_sum", "dynamic"])
def test_diagrams_show_images_and_routing_and_do_not_change_the_weights(run_here, results, conv):
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
    # The first convolution is not replaced.
    assert len([tag for tag in new if tag.startswith("routing_entropy/")]) == (8 if conv == "dynamic" else 0)


def test_the_default_conv_learns_the_default_data(run_here, results):
    assert run_here("train", "epochs=3", "data.train=600", "data.val=200", "data.test=200", "batch_size=32",
                    "model.depth=8", "augment=none", "data.image_size=16").code == 0  # fmt: skip
    rows = read_metrics(results()[0][0])
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.1


def test_two_runs_of_one_command_have_identical_weights(run_here, results):
    for _ in range(2):
        assert run_here("train", *TINY, "augment=standard", "model.dropout=0.1").code == 0
    (first, a), (second, b) = results()
    assert a["config_hash"] == b["config_hash"]
    assert_same_weights(first, second)


def test_the_initial_weights_of_other_layers_do_not_depend_on_the_conv(run_here, results, tmp_path):
    """The learning rate is so small that the saved weights are the initial weights."""
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
    rows = [read_metrics(folder) for folder, _ in results()]
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
def test_every_augmentation_trains_and_is_reproducible(run_here, results, augment):
    for _ in range(2):
        assert run_here("train", *TINY, f"augment={augment}", "epochs=1", "label_smoothing=0.1").code == 0
    assert_same_weights(*(folder for folder, _ in results()))


def test_bf16_and_channels_first_train(run_here, results):
    assert run_here("train", *TINY, "engine.autocast=bf16", "conv=dynamic").code == 0
    assert run_here("train", *TINY, "engine.channels_last=false", "conv=weighted_sum").code == 0
    assert all(result["status"] == "finished" for _, result in results())


@pytest.mark.skipif(torch.cuda.is_available(), reason="gpu_report.py checks CUDA graphs on a GPU")
def test_a_cuda_graph_without_a_gpu_is_refused(run_here):
    done = run_here("train", *TINY, "engine.cuda_graph=true")
    assert (done.code, done.out.count("epoch")) == (2, 0)
    assert done.err.endswith("(engine.cuda_graph)\n")


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_and_the_weight_names_of_an_eager_run(run_here, results):
    for compiled in ("true", "false"):
        arguments = (*TINY, "conv=dynamic", "model.dropout=0.2", f"engine.compile={compiled}")
        assert run_here("train", *arguments).code == 0
    (first, a), (second, b) = results()
    assert a["val"]["loss"] == pytest.approx(b["val"]["loss"], rel=1e-3)
    keys = [torch.load(folder / "checkpoints/best.pt")["network"].keys() for folder in (first, second)]
    assert keys[0] == keys[1]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["model.depth=15"], ["15", "8, 14, 20,", "model.depth"]),
        (["schedule=step", "schedule.milestones=[0.9,0.5]"], ["[0.9, 0.5]", "(schedule.milestones)"]),
        (["conv=weighted_sum", "conv.groups=3"], ["3", "(conv.groups)"]),
        (["model.stem=7x7", "model.depth=18", "data.image_size=16"], ["16x16", "32x32", "data.image_size"]),
        (["data=mnist", "model.in_channels=3"], ["1 channel", "3", "(model.in_channels)"]),
        (
            ["conv=weighted_sum", "conv.implementation=fft"],
            ["'fft'", "linear, pointwise, folded, fused or auto", "(conv.implementation)"],
        ),
        (["conv.skip=[layer9.*]"], ["'layer9.*'", "conv.skip"]),
        (["conv._target_=nowhere.MyConv2d"], ["'nowhere.MyConv2d'", "conv._target_"]),
        (["augment.crop_padding=40"], ["40", "32", "augment.crop_padding"]),
        (["batch_size=9000"], ["9000", "4000", "(batch_size)"]),
        (["model.num_classes=3"], ["3", "10", "(model.num_classes)"]),
    ],
)
def test_bad_input_gives_a_message_of_one_line_and_exit_code_2(run_here, results, arguments, facts):
    done = run_here("train", *arguments)
    assert done.code == 2
    (message,) = done.err.splitlines()
    assert message.startswith("error: ")
    assert all(fact in message for fact in facts), message
    ((_, result),) = results()
    assert (result["status"], result["error"]) == ("failed", message.removeprefix("error: "))


def test_the_message_names_a_missing_folder_an_empty_class_and_a_corrupt_image(run_here, tmp_path):
    done = run_here("train", "data=folder", "data.root=nowhere")
    assert done.code == 2
    assert "nowhere" in done.err
    assert "data.root" in done.err
    root = write_pictures(tmp_path / "pictures")
    (root / "bird").mkdir()
    done = run_here("train", "data=folder", f"data.root={root}")
    assert done.code == 2
    assert "bird" in done.err
    (root / "bird").rmdir()
    (root / "dog" / "07.png").write_bytes(b"not an image")
    done = run_here("train", "data=folder", f"data.root={root}", "batch_size=4")
    assert done.code == 2
    assert str(Path("dog") / "07.png") in done.err


def test_a_run_on_a_folder_of_images_trains(run_here, results, tmp_path):
    root = write_pictures(tmp_path / "pictures")
    done = run_here("train", *TINY[3:], "data=folder", f"data.root={root}", "data.image_size=16", "batch_size=8")
    assert done.code == 0, done.err
    assert results()[0][1]["data"] == "folder"


def test_a_users_class_is_trained_and_recorded_under_its_name(run_module, results, tmp_path):
    (tmp_path / "my_package.py").write_text(
        "from torch import nn\n\n\nclass MyConv2d(nn.Conv2d):\n"
        "    def forward(self, x):\n        return super().forward(x) * 0.5\n"
    )
    done = run_module("train", *TINY, "conv._target_=my_package.MyConv2d")
    assert done.code == 0, done.err
    assert "15 of 15" not in done.out  # a ResNet-8 has 9
    assert results()[0][1]["conv"] == "MyConv2d"
