import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from convbench.convs.dynamic import DynamicConv2d
from convbench.data.augment import Augment, Renderer
from convbench.data.resident import EvalBatches
from convbench.data.types import Split
from convbench.diagnostics.diagrams import Diagrams
from convbench.loggers.tensorboard import TensorBoard
from convbench.run_folders.run_folder import RunFolder
from tests.loggers.rows import epoch_row, started

SIZE, EPOCHS = 8, 11


def brightness(count: int) -> torch.Tensor:
    """The pixel values of the images of the split."""
    return torch.arange(7, 7 + count) % 256


def batches(count: int = 5, batch_size: int = 2) -> EvalBatches:
    """Batches of a split of `count` images, which are the second half of all images."""
    pixels = torch.cat([torch.zeros(count), brightness(count)]).byte()[:, None, None, None].expand(-1, 3, SIZE, SIZE)
    split = Split(pixels, None, torch.arange(count, 2 * count), [""] * 2 * count)
    return EvalBatches(split, batch_size, Renderer((0.5,) * 3, (0.2,) * 3, Augment(), True, torch.device("cpu")))


def dynamic(temperature: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers = DynamicConv2d(3, 4, 3, temperature=temperature), DynamicConv2d(4, 4, 3, temperature=temperature)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def send_epochs(
    network: nn.Module, folder: Path, temperatures: Mapping[int, float | None], val: EvalBatches | None = None
) -> None:
    """Send the epochs with the given temperatures, out of `EPOCHS`, to `Diagrams`."""
    with started(TensorBoard(), folder, images_seen=0) as board:
        diagrams = Diagrams(network, val or batches(), "none", [board], RunFolder(folder), settled=1.0)
        for epoch, temperature in temperatures.items():
            diagrams.on_epoch_start(epoch, EPOCHS, 0, 10)
            diagrams.on_epoch_end(epoch_row(epoch, temperature=temperature), 100 * epoch, is_best=False)


def steps_by_tag(folder: Path, kind: str) -> dict[str, list[int]]:
    """Tag -> steps of its events."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()
    read = events.Images if kind == "images" else events.Scalars
    return {tag: [event.step for event in read(tag)] for tag in events.Tags()[kind]}


def test_images_are_sent_at_the_start_after_powers_of_two_and_at_the_end(tmp_path):
    send_epochs(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), tmp_path, dict.fromkeys(range(1, EPOCHS + 1)))
    steps = [0, 100, 200, 400, 800, 1100]
    assert steps_by_tag(tmp_path, "images") == {"probe": [0], "kernels/first_layer": steps, "features/0": steps}
    assert steps_by_tag(tmp_path, "scalars") == {}


def test_a_resumed_run_does_not_send_the_images_of_the_start_again(tmp_path):
    with started(TensorBoard(), tmp_path, images_seen=30) as board:
        diagrams = Diagrams(nn.Conv2d(3, 4, 3), batches(), "none", [board], RunFolder(tmp_path), settled=1.0)
        diagrams.on_epoch_start(1, EPOCHS, 3, 10)
    with started(TensorBoard(), tmp_path, images_seen=300) as board:
        Diagrams(nn.Conv2d(3, 4, 3), batches(), "none", [board], RunFolder(tmp_path), settled=1.0).on_epoch_start(
            4, EPOCHS, 0, 10
        )
    assert steps_by_tag(tmp_path, "images") == {}


def test_the_probe_is_the_first_validation_image(tmp_path):
    send_epochs(nn.Conv2d(3, 4, 3), tmp_path, {1: None})
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("probe")
    assert (image.width, image.height) == (128, 128)
    pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert np.unique(pixels).tolist() == [7]


def test_a_network_without_convolutions_sends_only_the_probe(tmp_path):
    send_epochs(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 2)), tmp_path, {1: None})
    assert steps_by_tag(tmp_path, "images") == {"probe": [0]}


def test_routing_statistics_are_sent_every_epoch_for_each_layer_and_as_means(tmp_path):
    send_epochs(dynamic(), tmp_path, {1: 30.0, 2: 20.0, 3: 1.0})
    curves = steps_by_tag(tmp_path, "scalars")
    assert set(curves) == {
        *(f"routing/{name}" for name in ("entropy", "similarity", "top_share")),
        *(f"routing_{name}/{layer}" for name in ("entropy", "similarity") for layer in (0, 1)),
        *(f"routing_top_share/{layer}_{kernel}" for layer in (0, 1) for kernel in range(4)),
    }
    assert all(steps == [100, 200, 300] for steps in curves.values())
    events = EventAccumulator(str(tmp_path)).Reload()
    last = {tag: events.Scalars(tag)[-1].value for tag in curves}
    for name in ("entropy", "similarity"):
        layers = [last[f"routing_{name}/{layer}"] for layer in (0, 1)]
        assert last[f"routing/{name}"] == pytest.approx(sum(layers) / 2)
    largest = [max(last[f"routing_top_share/{layer}_{kernel}"] for kernel in range(4)) for layer in (0, 1)]
    assert last["routing/top_share"] == pytest.approx(sum(largest) / 2)


def test_routing_statistics_are_written_to_a_file_with_the_numbers_of_the_charts(tmp_path):
    send_epochs(dynamic(), tmp_path, {1: 30.0, 2: 1.0})
    rows = [json.loads(line) for line in (tmp_path / "routing.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    events = EventAccumulator(str(tmp_path)).Reload()
    for layer in ("0", "1"):
        recorded = rows[-1]["layers"][layer]
        assert recorded["entropy"] == pytest.approx(events.Scalars(f"routing_entropy/{layer}")[-1].value)
        shares = [events.Scalars(f"routing_top_share/{layer}_{kernel}")[-1].value for kernel in range(4)]
        assert recorded["top_shares"] == pytest.approx(shares)


def test_a_network_without_per_image_convolutions_writes_no_routing_file(tmp_path):
    send_epochs(nn.Conv2d(3, 4, 3), tmp_path, {1: None})
    assert not (tmp_path / "routing.jsonl").exists()


@pytest.mark.parametrize("count", [5, 256, 1000])
def test_routing_statistics_use_at_most_256_images_spaced_over_the_split(tmp_path, count):
    inputs = []

    class RecordingConv2d(DynamicConv2d):
        def routing_weights(self, x):
            inputs.append(x)
            return super().routing_weights(x)

    send_epochs(nn.Sequential(RecordingConv2d(3, 2, 3)), tmp_path, {3: None}, batches(count, batch_size=64))
    inputs = inputs[1::2]  # the forward pass itself makes the first call of each pair
    assert max(map(len, inputs)) <= 64, "batches are at most as large as those of the run"
    rows = torch.arange(min(count, 256)) * count // min(count, 256)
    torch.testing.assert_close(torch.cat(inputs)[:, 0, 0, 0], (brightness(count)[rows] / 255 - 0.5) / 0.2)


# -- warnings ---------------------------------------------------------------------------------------------------------


def collapse(network: nn.Sequential, layer: int) -> None:
    """Make every image use only kernel 2."""
    with torch.no_grad():
        network[layer].attention.excite.bias[2] = 100.0


def equalise(network: nn.Sequential, layer: int) -> None:
    """Make all kernels equal."""
    with torch.no_grad():
        network[layer].weight[1:] = network[layer].weight[:1]


def test_there_is_no_warning_without_a_collapse(tmp_path, caplog):
    send_epochs(dynamic(), tmp_path, {1: 30.0, 2: 1.0, 3: None})
    assert caplog.text == ""


def test_a_layer_whose_images_all_use_one_kernel_is_reported_once(tmp_path, caplog):
    network = dynamic()
    collapse(network, 1)
    with caplog.at_level(logging.WARNING):
        send_epochs(network, tmp_path, {1: 1.0, 2: 1.0})
    (message,) = caplog.messages
    assert " in 1:" in message
    assert "95%" in message


def test_layers_with_nearly_equal_kernels_are_reported_together_and_once(tmp_path, caplog):
    network = dynamic()
    with started(TensorBoard(), tmp_path, images_seen=0) as board:
        diagrams = Diagrams(network, batches(), "none", [board], RunFolder(tmp_path), settled=1.0)
        for epoch, layers in enumerate([(), (0, 1), (0, 1)], 1):
            for layer in layers:
                equalise(network, layer)
            diagrams.on_epoch_end(epoch_row(epoch), 100 * epoch, is_best=False)
    (message,) = caplog.messages
    assert " in 0, 1:" in message
    assert "equal" in message


def test_there_is_no_warning_before_the_temperature_is_final(tmp_path, caplog):
    network = dynamic()
    equalise(network, 0)
    send_epochs(network, tmp_path, {1: 30.0, 2: 1.5})
    assert caplog.messages == []
    send_epochs(network, tmp_path, {3: 1.0})
    assert len(caplog.messages) == 1


def test_a_kernel_with_slightly_larger_weights_for_all_images_is_no_collapse(tmp_path, caplog):
    network = dynamic()
    with torch.no_grad():
        network[0].attention.excite.weight.zero_()
        network[0].attention.excite.bias.copy_(torch.tensor([0.01, 0, 0, 0]))
    send_epochs(network, tmp_path, {1: 1.0})
    assert caplog.messages == []
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("routing_top_share/0_0")[0].value == 1.0
