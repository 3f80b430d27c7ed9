"""A trained network over a split or a folder of images: metrics, confusion matrix, predictions."""

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
from convbench.engine.evaluation import logits_of, score_of
from convbench.engine.metrics import SplitScore
from convbench.errors import UserError
from convbench.experiment.composition import Composition, compose, recorded_identity
from convbench.experiment.training import PlacedImages, on_device, place_images
from convbench.files import atomic_path, open_text, write_json
from convbench.run_folders.folder import RunFolder
from convbench.run_folders.provenance import circumstances, differences
from convbench.terminal import table
from convbench.tuning.implementations import use_implementations

log = logging.getLogger("convbench")


@dataclass(frozen=True)
class Predictions:
    """What a network says of n images.

    Attributes:
        names: of the images.
        probabilities: float32 `(n, classes)`, on the CPU.
        labels: int64 `(n,)`, or None where they are unknown.
        score: as training computes it, or None where there are no labels.
    """

    names: Sequence[str]
    probabilities: Tensor
    labels: Tensor | None
    score: SplitScore | None

    @property
    def predicted(self) -> Tensor:
        """The likeliest class of each image, int64 `(n,)`."""
        return self.probabilities.argmax(1)


@dataclass(frozen=True)
class Transform:
    """Turns an image into the input of a network, exactly as the images that it was trained on.

    Attributes:
        spec: channels and size of the network's input.
        renderer: normalises.
        value_range: values of black and white in images of more than 8 bits; None for what their format says.
    """

    spec: ImageSpec
    renderer: Renderer
    value_range: Sequence[float] | None = None

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Tensor:
        """Resize the shorter side, cut out the centre, normalise.

        Args:
            image: the path of a file, a PIL image, or uint8 `(H, W)` or `(H, W, 3)`.

        Returns:
            float32 `(C, H, W)`; `transform(image)[None]` is a batch.

        Raises:
            UserError: if the image cannot be decoded.
        """
        pixels = decode_image(image, self.spec.image_size, self.spec.channels, check_value_range(self.value_range))
        return self.renderer.plain(pixels[None].to(self.renderer.device), torch.zeros(1, dtype=torch.int64))[0]


class Evaluation:
    """The network of a run with one of its checkpoints.

    Args:
        folder: of the run.
        config: of the run.
        which: `best` or `last`.
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
        # what conv.implementation=auto chose for training: another one rounds in another way
        use_implementations(self.network, folder.record.implementations)
        self.network.load_state_dict(state["network"] if which == "best" else state["training"]["network"])
        self.computed = circumstances(config, describe_device(device), torch.get_num_threads())
        parts = folder.record.parts()
        changed = differences(parts[-1], self.computed) if parts else ""
        if changed:
            log.warning("not computed as the training of this network: %s", changed)

    @cached_property
    def images(self) -> PlacedImages:
        """The images of the run, placed as in training; read on first use."""
        loaded = self.composition.source.load()
        return place_images(loaded, self.config.engine, self.config.batch_size, self.composition.device)

    @cached_property
    def renderer(self) -> Renderer:
        """Normalises images as they were in training."""
        known = self.identity or self.images.splits
        composition, channels_last = self.composition, self.config.engine.channels_last
        return Renderer(known.mean, known.std, composition.augment, channels_last, composition.device)

    @property
    def transform(self) -> Transform:
        """Turns an image into the input of the network."""
        return Transform(self.composition.spec, self.renderer, self.config.data.get("value_range"))

    @classmethod
    def of(
        cls, run: str, which: str, device: str, root: str | None = None, datasets: str | None = None
    ) -> "Evaluation":
        """The evaluation of the run in a folder.

        Args:
            run: the folder.
            which: `best` or `last`.
            device: on which to compute.
            root: where its data are now; None for where they were.
            datasets: the same for the folder of all data sets.

        Raises:
            UserError: if there is no such run or checkpoint.
        """
        folder = RunFolder.open(run, "run")
        config = folder.read_config()
        config.engine.device = device
        relocate(config, root, datasets)
        return cls(folder, config, which)

    def measure(self, split_name: str, columns: tuple[str, ...], strip_suffix: bool) -> None:
        """Print and write loss, accuracy, accuracy by class, confusion matrix and a prediction for each image.

        A test split without labels is predicted only.

        Raises:
            UserError: for a split that the data lacks.
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
        """Predict every image of a flat folder; the data that the network was trained on are not needed.

        Raises:
            UserError: if there are none, or one is corrupt.
        """
        spec = self.composition.spec
        pixels, names = load_images(images, spec.image_size, spec.channels, self.config.data.get("value_range"))
        split = Split(pixels, None, torch.arange(len(pixels)), names)
        predictions = self._predict(split, is_prefetched=True)
        self._write_unlabelled(predictions, Path(images).resolve().name, columns, strip_suffix)

    def _predict(self, split: Split, is_prefetched: bool) -> Predictions:
        batches = EvalBatches(split, self.config.batch_size, self.renderer, is_prefetched)
        parts = [logits for logits, _ in logits_of(self.network, batches, self.config.engine.autocast)]
        rows, logits = split.indices.cpu(), torch.cat(parts)
        labels = None if split.labels is None else split.labels[split.indices]
        of_parts = [] if labels is None else labels.to(logits.device).split(self.config.batch_size)
        return Predictions(
            names=[split.names[row] for row in rows.tolist()],
            probabilities=logits.softmax(1).cpu(),
            labels=None if labels is None else labels.cpu(),
            score=None if labels is None else score_of(zip(parts, of_parts, strict=True)),
        )

    def _write_labelled(self, predictions: Predictions, split_name: str) -> None:
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
        place = self._place(split_name)
        write_json(place / "metrics.json", metrics, indent=1)
        _write_csv(
            place / "confusion_matrix.csv",
            ["true class", *classes],
            ([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True)),
        )
        sure = predictions.probabilities.amax(1).tolist()
        said = predictions.predicted.tolist()
        _write_csv(
            place / "predictions.csv",
            ["file", "label", "predicted", "probability"],
            (
                [name, classes[label], classes[guess], f"{probability:.6f}"]
                for name, label, guess, probability in zip(predictions.names, labels.tolist(), said, sure, strict=True)
            ),
        )
        print(f"{split_name} set, {self.which} checkpoint: {len(labels):,} images")
        print(f"loss {score.loss:.4f}, accuracy {100 * score.accuracy:.2f} %\n")
        # Columns by number: ten names side by side would not fit a terminal.
        head = ["true class, predicted as", *map(str, range(len(classes))), "correct %"]
        body = [
            [f"{index} {name}", *map(str, row), "-" if share is None else f"{100 * share:.2f}"]
            for index, (name, row, share) in enumerate(zip(classes, matrix.tolist(), by_class, strict=True))
        ]
        print(table([head, *body]))
        print(f"\nwritten to {place}")

    def _write_unlabelled(
        self, predictions: Predictions, name: str, columns: tuple[str, ...], strip_suffix: bool
    ) -> None:
        """The two-column form in which Kaggle takes predictions."""
        classes = self.composition.spec.classes
        place = self._place(name)
        files = [str(Path(file).with_suffix("")) if strip_suffix else file for file in predictions.names]
        said = [classes[guess] for guess in predictions.predicted.tolist()]
        _write_csv(place / "predictions.csv", columns, zip(files, said, strict=True))
        print(f"{len(files):,} images predicted; written to {place / 'predictions.csv'}")

    def _place(self, name: str) -> Path:
        return self.folder.path / "evaluation" / f"{name}-{self.which}"


def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """How many images of class i (rows) were taken for class j (columns): int64 `(classes, classes)`."""
    flat = labels * num_classes + predicted
    return torch.bincount(flat, minlength=num_classes**2).view(num_classes, num_classes)


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, open_text(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
