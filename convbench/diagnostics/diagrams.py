"""Diagrams of kernels, feature maps and routing weights for TensorBoard, computed between epochs."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from convbench.data.resident import EvalBatches
from convbench.diagnostics.grids import enlarged, kernel_grid, map_grid
from convbench.diagnostics.inspection import Routing, feature_maps, first_kernels, routing
from convbench.loggers.sink import EpochRow, Sink
from convbench.run_folders.run_folder import RunFolder

log = logging.getLogger("convbench")

IMAGES = 256  # maximum number of validation images for the statistics of the routing weights

# The routing of a layer has collapsed onto one expert if a larger fraction of the images prefers this expert and the
# entropy is smaller, or if the mean cosine similarity of its kernels is larger.
_COLLAPSED_SHARE = 0.95
_COLLAPSED_ENTROPY = 0.05
_COLLAPSED_SIMILARITY = 0.99


class Diagrams(Sink):
    """Sends images of kernels and feature maps, and statistics of the routing weights, to other sinks.

    Images are sent before the first step, after epochs 1, 2, 4, 8, ... and after the last epoch. The statistics of the
    routing weights of per-image convolutions are computed after every epoch.

    Args:
        network: The network, on its device.
        val: Validation batches. The feature maps are those of the first image.
        precision: Precision of the forward passes: `none`, `bf16` or `fp16`.
        sinks: The sinks that receive the images and the numbers.
        folder: The run folder, whose file `routing.jsonl` gets one row per epoch.
        settled: The final temperature. At other temperatures there is no warning about collapsed routing.
    """

    def __init__(
        self,
        network: nn.Module,
        val: EvalBatches,
        precision: str,
        sinks: Sequence[Sink],
        folder: RunFolder,
        settled: float,
    ) -> None:
        self.network = network
        self.precision = precision
        self.sinks = sinks
        self.folder = folder
        self.settled = settled
        self._image = val.split.images[val.split.indices[:1]]
        self._val = _sample(val)
        self._probe = next(iter(self._val))[0][:1]
        self._epochs = 0
        self._warned: set[str] = set()

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        """Send images of the initial network before the first step of a run."""
        self._epochs = epochs
        if epoch == 1 and first == 0:
            self._send_images({"probe": enlarged(self._image[0])} | self._images(), 0)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Send the statistics of the routing weights and, after some epochs, images."""
        if row.epoch & (row.epoch - 1) == 0 or row.epoch == self._epochs:
            self._send_images(self._images(), images_seen)
        self._send_scalars(images_seen)
        layers = routing(self.network, self._batches(), self.precision)
        if layers:
            for sink in self.sinks:
                sink.on_scalars(_curves(layers), images_seen)
            self.folder.append_routing(
                {"epoch": row.epoch, "layers": {name: asdict(layer) for name, layer in layers.items()}}
            )
            if row.temperature is None or math.isclose(row.temperature, self.settled):
                self._warn_of_collapse(layers)

    def _images(self) -> dict[str, Tensor]:
        diagrams = [draw(self.network, self._probe, self.precision) for draw in IMAGE_DIAGRAMS]
        return {tag: image for images in diagrams for tag, image in images.items()}

    def _send_scalars(self, images_seen: int) -> None:
        for measure in SCALAR_DIAGRAMS:
            values = measure(self.network, self._batches(), self.precision)
            for sink in self.sinks:
                sink.on_scalars(values, images_seen)

    def _send_images(self, images: dict[str, Tensor], images_seen: int) -> None:
        for sink in self.sinks:
            sink.on_images(images, images_seen)

    def _batches(self) -> Iterator[Tensor]:
        return (batch[:count] for batch, _, count in self._val)

    def _warn_of_collapse(self, layers: dict[str, Routing]) -> None:
        """Warn once about each layer whose routing has collapsed."""
        one = [name for name, layer in layers.items() if _uses_one_kernel(layer)]
        equal = [name for name, layer in layers.items() if layer.similarity > _COLLAPSED_SIMILARITY]
        for names, reason in (
            (one, f"more than {_COLLAPSED_SHARE:.0%} of the images use the same kernel"),
            (equal, "the kernels are nearly equal"),
        ):
            new = [name for name in names if name not in self._warned]
            if new:
                log.warning("routing has collapsed in %s: %s", ", ".join(new), reason)
            self._warned.update(new)


def _sample(val: EvalBatches) -> EvalBatches:
    """At most `IMAGES` images, evenly spaced over the split, because the split may be sorted by class."""
    indices = val.split.indices
    count = min(IMAGES, len(indices))
    chosen = torch.arange(count, device=indices.device) * len(indices) // count
    return EvalBatches(replace(val.split, indices=indices[chosen]), val.batch_size, val.renderer, val.is_prefetched)


def _uses_one_kernel(layer: Routing) -> bool:
    return max(layer.top_shares) > _COLLAPSED_SHARE and layer.entropy < _COLLAPSED_ENTROPY


def _curves(layers: dict[str, Routing]) -> dict[str, float]:
    """Tag -> value: the means over all layers, and the values of each layer in separate groups of charts."""
    routings = layers.values()
    curves = {
        "routing/entropy": sum(layer.entropy for layer in routings) / len(layers),
        "routing/similarity": sum(layer.similarity for layer in routings) / len(layers),
        "routing/top_share": sum(max(layer.top_shares) for layer in routings) / len(layers),
    }
    for name, layer in layers.items():
        curves[f"routing_entropy/{name}"] = layer.entropy
        curves[f"routing_similarity/{name}"] = layer.similarity
        for kernel, share in enumerate(layer.top_shares):
            curves[f"routing_top_share/{name}_{kernel}"] = share
    return curves


def kernel_images(network: nn.Module, probe: Tensor, precision: str) -> dict[str, Tensor]:
    """The kernels of the first convolution, by tag; empty if it has none of its own."""
    kernels = first_kernels(network)
    return {} if kernels is None else {"kernels/first_layer": kernel_grid(kernels)}


def feature_images(network: nn.Module, probe: Tensor, precision: str) -> dict[str, Tensor]:
    """The feature maps of the probe image at each resolution, by tag."""
    maps = feature_maps(network, probe, precision)
    return {f"features/{name}": map_grid(layer_maps) for name, layer_maps in maps.items()}


ImageDiagram = Callable[[nn.Module, Tensor, str], dict[str, Tensor]]
ScalarDiagram = Callable[[nn.Module, Iterable[Tensor], str], dict[str, float]]

# Images of the network, drawn before the first step, after epochs 1, 2, 4, 8, ... and after the last one. Each function
# takes the network, one normalised validation image (1, C, H, W) and the precision; it returns uint8 (C, H, W) by tag.
IMAGE_DIAGRAMS: list[ImageDiagram] = [kernel_images, feature_images]
# Numbers of the network after every epoch. Each function takes the network, batches of normalised validation images
# (N, C, H, W) and the precision; it returns values by tag. The curves of the routing come beside, as they are also rows
# of a file.
SCALAR_DIAGRAMS: list[ScalarDiagram] = []
