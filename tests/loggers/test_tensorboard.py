import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from convbench.loggers.sink import StepSummary
from convbench.loggers.tensorboard import TensorBoard
from tests.loggers.rows import epoch_row, started

TAGS = {"loss/train", "loss/val", "accuracy/train", "accuracy/val", "lr", "speed/images_per_second"}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> points of its curve, as TensorBoard reads them."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def step_summary(images_seen: int, lr: float, temperature: float | None = None) -> StepSummary:
    return StepSummary(index=5, images_seen=images_seen, loss=1.0, accuracy=0.5, lr=lr, temperature=temperature)


def test_a_run_has_exactly_the_documented_tags(tmp_path: Path) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        board.on_summary(step_summary(64, 0.2))
        board.on_epoch_end(epoch_row(1), images_seen=128, is_best=True)
    assert set(curves(tmp_path)) == TAGS


def test_training_and_validation_curves_share_one_chart(tmp_path: Path) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0):
        pass
    events = EventAccumulator(str(tmp_path)).Reload()
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts == {"loss": ["loss/train", "loss/val"], "accuracy": ["accuracy/train", "accuracy/val"]}


def test_options_and_scores_are_written_to_the_tab_hparams_of_the_same_run(tmp_path: Path) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        board.on_run_end({"conv": "dynamic", "seed": 3, "optimizer.lr": 0.1}, {"final/test_accuracy": 0.75})
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [], "a subfolder would be shown as a separate run"
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("final/test_accuracy")[0].value == 0.75
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["conv"].string_value == "dynamic"
    assert (start.hparams["seed"].number_value, start.hparams["optimizer.lr"].number_value) == (3, 0.1)


def test_the_temperature_is_written_if_a_convolution_has_one(tmp_path: Path) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        board.on_summary(step_summary(64, 0.2, temperature=15.5))
        board.on_epoch_end(epoch_row(1, temperature=1.0), images_seen=128, is_best=True)
    got = curves(tmp_path)
    assert set(got) == TAGS | {"temperature"}
    assert got["temperature"] == [(64, 15.5), (128, 1.0)]


def test_the_x_axis_is_the_number_of_images_seen(tmp_path: Path) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        for epoch in (1, 2):
            board.on_summary(step_summary(128 * epoch - 64, 0.5))
            row = epoch_row(
                epoch,
                train_loss=4.0 / epoch,
                val_loss=8.0 / epoch,
                train_accuracy=epoch / 4,
                val_accuracy=epoch / 8,
                lr=0.25,
            )
            board.on_epoch_end(row, images_seen=128 * epoch, is_best=False)
    assert curves(tmp_path) == {
        "lr": [(64, 0.5), (128, 0.25), (192, 0.5), (256, 0.25)],
        "loss/train": [(128, 4.0), (256, 2.0)],
        "loss/val": [(128, 8.0), (256, 4.0)],
        "accuracy/train": [(128, 0.25), (256, 0.5)],
        "accuracy/val": [(128, 0.125), (256, 0.25)],
        "speed/images_per_second": [(128, 640.0), (256, 640.0)],
    }


@pytest.mark.parametrize("images_seen", [128, 160], ids=["after an epoch", "within an epoch"])
def test_a_resumed_run_drops_the_events_after_its_checkpoint(tmp_path: Path, images_seen: int) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        for epoch in (1, 2, 3):
            board.on_epoch_end(epoch_row(epoch, train_loss=1.0), images_seen=128 * epoch, is_best=False)
    with started(TensorBoard(), tmp_path, images_seen=images_seen) as board:
        board.on_epoch_end(epoch_row(2, train_loss=2.0), images_seen=256, is_best=False)
    assert curves(tmp_path)["loss/train"] == [(128, 1.0), (256, 2.0)]


def test_a_resumed_run_drops_additional_numbers_and_images_after_its_checkpoint(tmp_path: Path) -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        for images_seen in (0, 128, 256):
            board.on_scalars({"routing/entropy": images_seen / 256}, images_seen)
            board.on_images({"probe": image}, images_seen)
    with started(TensorBoard(), tmp_path, images_seen=128) as board:
        board.on_scalars({"routing/entropy": 0.25}, 300)
    assert curves(tmp_path) == {"routing/entropy": [(0, 0.0), (128, 0.5), (300, 0.25)]}
    images = EventAccumulator(str(tmp_path)).Reload().Images("probe")
    assert [event.step for event in images] == [0, 128]
    shown = np.asarray(Image.open(io.BytesIO(images[0].encoded_image_string)))
    np.testing.assert_array_equal(shown, image.permute(1, 2, 0).numpy())


def test_an_epoch_can_be_read_while_the_run_continues(tmp_path: Path) -> None:
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        board.on_epoch_end(epoch_row(1), images_seen=128, is_best=True)
        assert curves(tmp_path)["loss/val"] == [(128, 1.25)]
