"""Evaluation of a trained network on a split or on a folder of images: metrics, confusion matrix and predictions."""

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from convbench.config.relocation import relocate
from convbench.data.augment import Renderer
from convbench.data.decode import decode_image
from convbench.data.folder import load_images
from convbench.data.pixels import check_value_range
from convbench.data.resident import EvalBatches
from convbench.data.types import ImageSpec, Split
from convbench.engine import checkpoint
from convbench.engine.device import describe_device
from convbench.engine.metrics import SplitScore
from convbench.engine.scoring import logits_of, score_of
from convbench.errors import UserError
from convbench.experiment.composition import Composition, compose, recorded_identity
from convbench.experiment.training import PlacedImages, on_device, place_images
from convbench.files import atomic_path, open_text, write_json
from convbench.run_folders.provenance import circumstances, differences
from convbench.run_folders.run_folder import RunFolder
from convbench.terminal import table
from convbench.tuning.implementations import use_implementations

log = logging.getLogger("convbench")


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for N images.

    Attributes:
        names: the names of the images.
        probabilities: the class probabilities, float32, shape (N, K), on the CPU.
        labels: the true labels, int64, shape (N,); None if they are unknown.
        score: loss and accuracy as in training; None without labels.
    """

    names: Sequence[str]
    probabilities: Tensor
    labels: Tensor | None
    score: SplitScore | None

    @property
    def predicted(self) -> Tensor:
        """The most probable class of each image, int64, shape (N,)."""
        return self.probabilities.argmax(1)


@dataclass(frozen=True)
class Transform:
    """Converts an image to the input of a network, exactly as the images on which it was trained.

    Attributes:
        spec: the channels and the size of the network's input.
        renderer: normalises the image.
        value_range: the values of black and white in images with more than 8 bits; None for those of their format.
    """

    spec: ImageSpec
    renderer: Renderer
    value_range: Sequence[float] | None = None

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Tensor:
        """Resize the shorter side, crop the centre and normalise.

        Args:
            image: the path of a file, a PIL image, or a uint8 array of shape (H, W) or (H, W, 3).

        Returns:
            The input, float32, shape (C, H, W); `transform(image)[None]` is a batch.

        Raises:
            UserError: if the image cannot be decoded.
        """
        pixels = decode_image(image, self.spec.image_size, self.spec.channels, check_value_range(self.value_range))
        device = self.renderer.device
        return self.renderer.plain(pixels[None].to(device), torch.zeros(1, dtype=torch.int64, device=device))[0]


class Evaluation:
    """The network of a run with the weights of one of its checkpoints.

    Args:
        folder: the folder of the run.
        config: the configuration of the run.
        which: the checkpoint: `best` or `last`.

    Raises:
        UserError: if the checkpoint is missing, or the configuration does not fit this machine.
    """

    def __init__(self, folder: RunFolder, config: DictConfig, which: str) -> None:
        self.folder = folder
        self.config = config
        self.which = which
        self.identity = recorded_identity(folder)
        self.composition: Composition = compose(config, self.identity)
        device, engine = self.composition.device, config.engine
        path = folder.best_checkpoint if which == "best" else folder.last_checkpoint
        state = checkpoint.load(path, device)
        self.network = on_device(self.composition.built.network, device, engine.channels_last)
        # Use the implementations that conv.implementation=auto chose for training: others round differently.
        use_implementations(self.network, folder.record.implementations)
        self.network.load_state_dict(state["network"] if which == "best" else state["training"]["network"])
        self.computed = circumstances(config, describe_device(device), torch.get_num_threads())
        parts = folder.record.parts()
        changed = differences(parts[-1], self.computed) if parts else ""
        if changed:
            log.warning("evaluation and training are computed differently: %s", changed)

    @cached_property
    def images(self) -> PlacedImages:
        """The images of the run, in the same memory as in training; they are read on first use."""
        loaded = self.composition.source.load()
        return place_images(loaded, self.config.engine, self.config.batch_size, self.composition.device)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer that normalises images as in training."""
        known = self.identity or self.images.splits
        composition, channels_last = self.composition, self.config.engine.channels_last
        return Renderer(known.mean, known.std, composition.augment, channels_last, composition.device)

    @property
    def transform(self) -> Transform:
        """The conversion of an image to the input of the network."""
        return Transform(self.composition.spec, self.renderer, self.config.data.get("value_range"))

    @classmethod
    def from_folder(
        cls, run: str, which: str, device: str, root: str | None = None, datasets: str | None = None
    ) -> "Evaluation":
        """The evaluation of the run in a folder.

        Args:
            run: the folder.
            which: the checkpoint: `best` or `last`.
            device: the device on which the network is computed.
            root: the present folder of its data set; None if it has not moved.
            datasets: the present folder of all data sets; None if it has not moved.

        Raises:
            UserError: if there is no such run or checkpoint.
        """
        folder = RunFolder.open(run, "run")
        config = folder.read_config()
        config.engine.device = device
        relocate(config, root, datasets)
        return cls(folder, config, which)

    def measure(self, split_name: str, columns: tuple[str, ...], strip_suffix: bool) -> None:
        """Print and write loss, accuracy, accuracy by class, confusion matrix and the prediction for each image.

        For a test split without labels, only the predictions are written.

        Args:
            split_name: the split: `val` or `test`.
            columns: the names of the two columns of the predictions of a split without labels.
            strip_suffix: whether these predictions contain file names without their suffix.

        Raises:
            UserError: if the data set does not have the split.
        """
        split: Split | None = getattr(self.images.splits, split_name)
        if split is None:
            raise UserError("this data set has no test split; choose split=val or give images=FOLDER (split)")
        predictions = self._predict(split, self.images.is_prefetched)
        if predictions.labels is None:
            self._write_unlabelled(predictions, split_name, columns, strip_suffix)
        else:
            self._write_labelled(predictions, split_name)

    def predict_folder(self, images: str, columns: tuple[str, ...], strip_suffix: bool) -> None:
        """Predict every image of a flat folder; the data set of the run is not needed.

        Args:
            images: the folder.
            columns: the names of the two columns of the predictions.
            strip_suffix: whether the predictions contain file names without their suffix.

        Raises:
            UserError: if the folder contains no images, or a corrupt one.
        """
        spec = self.composition.spec
        pixels, names = load_images(images, spec.image_size, spec.channels, self.config.data.get("value_range"))
        split = Split(pixels, None, torch.arange(len(pixels)), names)
        predictions = self._predict(split, is_prefetched=True)
        self._write_unlabelled(predictions, Path(images).resolve().name, columns, strip_suffix)

    def _predict(self, split: Split, is_prefetched: bool) -> Predictions:
        """The predictions for the images of a split, with the score if they have labels."""
        batches = EvalBatches(split, self.config.batch_size, self.renderer, is_prefetched)
        parts = [logits for logits, _ in logits_of(self.network, batches, self.config.engine.autocast)]
        rows, logits = split.indices.cpu(), torch.cat(parts)
        labels = None if split.labels is None else split.labels[split.indices]
        label_parts = [] if labels is None else labels.to(logits.device).split(self.config.batch_size)
        return Predictions(
            names=[split.names[row] for row in rows.tolist()],
            probabilities=logits.softmax(1).cpu(),
            labels=None if labels is None else labels.cpu(),
            score=None if labels is None else score_of(zip(parts, label_parts, strict=True)),
        )

    def _write_labelled(self, predictions: Predictions, split_name: str) -> None:
        """Write the metrics, the confusion matrix and the predictions for labelled images, and print a summary."""
        classes, labels, score = self.composition.spec.classes, predictions.labels, predictions.score
        assert labels is not None
        assert score is not None
        matrix = confusion_matrix(labels, predictions.predicted, len(classes))
        counts = zip(matrix.diag().tolist(), matrix.sum(1).tolist(), strict=True)
        by_class = [correct / images if images else None for correct, images in counts]
        metrics = {
            "run": str(self.folder.path),
            "checkpoint": self.which,
            "split": split_name,
            "images": len(labels),
            "loss": score.loss,
            "accuracy": score.accuracy,
            "accuracy_by_class": dict(zip(classes, by_class, strict=True)),
            "computed": self.computed,
        }
        output = self._output_folder(split_name)
        write_json(output / "metrics.json", metrics, indent=1)
        _write_csv(
            output / "confusion_matrix.csv",
            ["true class", *classes],
            ([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)),
        )
        confidences = predictions.probabilities.amax(1).tolist()
        predicted = predictions.predicted.tolist()
        rows = zip(predictions.names, labels.tolist(), predicted, confidences, strict=True)
        _write_csv(
            output / "predictions.csv",
            ["file", "label", "predicted", "probability"],
            ([name, classes[label], classes[index], f"{confidence:.6f}"] for name, label, index, confidence in rows),
        )
        print(f"{split_name} set, {self.which} checkpoint: {len(labels):,} images")
        print(f"loss {score.loss:.4f}, accuracy {100 * score.accuracy:.2f} %\n")
        # The columns have numbers as titles, because the names of ten classes would not fit a terminal.
        head = ["true class, predicted as", *map(str, range(len(classes))), "correct %"]
        body = [
            [f"{index} {name}", *map(str, row), "-" if accuracy is None else f"{100 * accuracy:.2f}"]
            for index, (name, row, accuracy) in enumerate(zip(classes, matrix.tolist(), by_class, strict=True))
        ]
        print(table([head, *body]))
        print(f"\nwritten to {output}")

    def _write_unlabelled(
        self, predictions: Predictions, name: str, columns: tuple[str, ...], strip_suffix: bool
    ) -> None:
        """Write the predictions in the two-column format of Kaggle submissions."""
        classes = self.composition.spec.classes
        path = self._output_folder(name) / "predictions.csv"
        files = [str(Path(file).with_suffix("")) if strip_suffix else file for file in predictions.names]
        predicted = [classes[index] for index in predictions.predicted.tolist()]
        _write_csv(path, columns, zip(files, predicted, strict=True))
        print(f"{len(files):,} images predicted; written to {path}")

    def _output_folder(self, name: str) -> Path:
        return self.folder.path / "evaluation" / f"{name}-{self.which}"


def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """The number of images of class i that were predicted as class j, at [i, j].

    Args:
        labels: the true labels, int64, shape (N,).
        predicted: the predicted labels, int64, shape (N,).
        num_classes: the number of classes K.

    Returns:
        int64, shape (K, K).
    """
    flat = labels * num_classes + predicted
    return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, open_text(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
