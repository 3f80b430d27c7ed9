"""Shows in TensorBoard what goes on inside the network, between epochs; never within a step."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from convbench.data.resident import EvalBatches
from convbench.diagnostics.grids import enlarged, kernel_grid, map_grid
from convbench.diagnostics.inspection import Routing, feature_maps, first_kernels, routing
from convbench.loggers.sink import EpochRow, Sink
from convbench.run_folders.folder import RunFolder

log = logging.getLogger("convbench")

IMAGES = 256  # validation images on which routing is measured

# Where a layer with several kernels no longer makes use of them
_ONE_KERNEL_SHARE = 0.95
_ONE_KERNEL_ENTROPY = 0.05
_EQUAL_KERNELS = 0.99


class Diagrams(Sink):
    """Writes pictures of kernels and feature maps now and then, and the routing of per-image convolutions every epoch.

    Pictures are taken before the first step, after epochs 1, 2, 4, 8, ... and after the last.

    Args:
        network: on its device.
        val: validation batches; the first image is the one whose feature maps are shown.
        precision: in which to run.
        sinks: receive the images and the numbers.
        folder: of the run, where the routing is kept in `routing.jsonl`, a row an epoch.
        settled: the temperature at which routing has settled, before which nobody is warned of it.
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
        self._probe = val.renderer.plain(val.split.images, val.split.indices[:1])
        self._val = _sample(val)
        self._epochs = 0
        self._warned: set[str] = set()

    def on_epoch_start(self, epoch: int, epochs: int, first: int, steps: int) -> None:
        """Before the first step of a run, show what it starts from."""
        self._epochs = epochs
        if epoch == 1 and first == 0:
            self._send_images({"probe": enlarged(self._image[0])} | self._pictures(), 0)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Write the routing and, after some epochs, pictures."""
        if row.epoch & (row.epoch - 1) == 0 or row.epoch == self._epochs:
            self._send_images(self._pictures(), images_seen)
        layers = routing(self.network, self._batches(), self.precision)
        if layers:
            for sink in self.sinks:
                sink.on_scalars(_curves(layers), images_seen)
            self.folder.append_routing(
                {"epoch": row.epoch, "layers": {name: asdict(layer) for name, layer in layers.items()}}
            )
            if row.temperature is None or math.isclose(row.temperature, self.settled):
                self._warn(layers)

    def _send_images(self, images: dict[str, Tensor], images_seen: int) -> None:
        for sink in self.sinks:
            sink.on_images(images, images_seen)

    def _pictures(self) -> dict[str, Tensor]:
        kernels = first_kernels(self.network)
        pictures = {} if kernels is None else {"kernels/first_layer": kernel_grid(kernels)}
        maps = feature_maps(self.network, self._probe, self.precision)
        return pictures | {f"features/{name}": map_grid(of_layer) for name, of_layer in maps.items()}

    def _batches(self) -> Iterator[Tensor]:
        return (batch[:count] for batch, _, count in self._val)

    def _warn(self, layers: dict[str, Routing]) -> None:
        """Name layers that make no use of their kernels, each once."""
        one = [name for name, layer in layers.items() if _takes_one_kernel(layer)]
        equal = [name for name, layer in layers.items() if layer.similarity > _EQUAL_KERNELS]
        for names, what in (
            (one, f"more than {_ONE_KERNEL_SHARE:.0%} of the images take the same kernel"),
            (equal, "the kernels are nearly equal"),
        ):
            new = [name for name in names if name not in self._warned]
            if new:
                log.warning("routing has collapsed in %s: %s", ", ".join(new), what)
            self._warned.update(new)


def _sample(val: EvalBatches) -> EvalBatches:
    """At most `IMAGES` images, spread over the split, which may be sorted by class."""
    indices = val.split.indices
    count = min(IMAGES, len(indices))
    chosen = torch.arange(count, device=indices.device) * len(indices) // count
    return EvalBatches(replace(val.split, indices=indices[chosen]), val.batch_size, val.renderer)


def _takes_one_kernel(layer: Routing) -> bool:
    return max(layer.top_shares) > _ONE_KERNEL_SHARE and layer.entropy < _ONE_KERNEL_ENTROPY


def _curves(layers: dict[str, Routing]) -> dict[str, float]:
    """Tag -> value: means over layers in one group of charts, each layer's own in groups beside it."""
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
