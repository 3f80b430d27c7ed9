"""Learning and routing curves of variants: mean and standard deviation over seeds, against each x axis."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convbench.report.variants import Variant
from convbench.run_folders.record import RunRecord

MAX_POINTS = 200  # maximum number of points of a curve; a screen does not resolve more

X_AXES = {
    "epochs": "epoch",
    "seconds": "training time (s)",
    "images": "training images seen",
    "flops": "training FLOPs (forward and backward, estimated)",
}
Y_AXES = {
    "val_accuracy": "validation accuracy (%)",
    "train_accuracy": "training accuracy (%)",
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "gap_accuracy": "training minus validation accuracy (points)",
    "gap_loss": "validation minus training loss",
}
ROUTING = {
    "entropy": "entropy of the routing weights (0: one kernel, 1: uniform)",
    "top_share": "share of images dominated by the most used kernel",
    "similarity": "mean cosine between two kernels",
}
# Training FLOPs for each multiply-accumulate operation of the forward pass. The backward pass computes the gradients of
# inputs and of weights, each as much work as the forward pass. A multiply-accumulate operation counts as two FLOPs.
_TRAINING_FLOPS_PER_MAC = 2 * 3


@dataclass(frozen=True)
class Curve:
    """Curves of a variant over common x axes.

    Attributes:
        x: axis -> values, means over seeds.
        y: quantity -> `mean`, `low` and `high` values; `low` and `high` are one standard deviation below and above.
        label: text to add to the label of the variant, such as the name of a layer; may be empty.
    """

    x: dict[str, list[float]]
    y: dict[str, dict[str, list[float | None]]]
    label: str = ""


def learning_curve(variant: Variant) -> Curve | None:
    """Loss and accuracy over the epochs that all finished runs have; None if there are no such epochs."""
    runs = [(run, run.rows) for run in variant.finished.values()]
    epochs = min((len(rows) for _, rows in runs), default=0)
    if not epochs:
        return None
    axes = [_axes(run, rows[:epochs]) for run, rows in runs]
    quantities = [_quantities(rows[:epochs]) for _, rows in runs]
    drawn = _drawn_rows(epochs)
    x = {
        name: [round(statistics.fmean(values[name][index] for values in axes), 3) for index in drawn] for name in X_AXES
    }
    y = {name: _band([[values[name][index] for values in quantities] for index in drawn]) for name in Y_AXES}
    return Curve(x, y)


def routing_curves(variant: Variant) -> list[Curve]:
    """Routing statistics of convolutions that mix kernels for each image: a curve for each layer, means over seeds.

    The list is empty if no finished run has recorded routing.
    """
    runs = [rows for run in variant.finished.values() if (rows := run.routing())]
    epochs = min((len(rows) for rows in runs), default=0)
    if not epochs:
        return []
    drawn = _drawn_rows(epochs)
    curves = []
    for layer in runs[0][0]["layers"]:
        values: dict[str, list[list[float | None]]] = {name: [] for name in ROUTING}
        for index in drawn:
            records = [rows[index]["layers"][layer] for rows in runs if layer in rows[index]["layers"]]
            values["entropy"].append([record["entropy"] for record in records])
            values["top_share"].append([max(record["top_shares"]) for record in records])
            values["similarity"].append([record["similarity"] for record in records])
        x = {"epochs": [float(runs[0][index]["epoch"]) for index in drawn]}
        curves.append(Curve(x, {name: _band(points) for name, points in values.items()}, layer))
    return curves


def _drawn_rows(epochs: int) -> list[int]:
    """Indices of the rows to draw: evenly spaced, at most `MAX_POINTS`, with the first and the last one."""
    if epochs <= MAX_POINTS:
        return list(range(epochs))
    return sorted({round(index * (epochs - 1) / (MAX_POINTS - 1)) for index in range(MAX_POINTS)})


def _axes(run: RunRecord, rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Axis of `X_AXES` -> the value after each epoch of a run."""
    seconds, images = [0.0], [0.0]
    for row in rows:
        seconds.append(seconds[-1] + row["seconds"])
        images.append(images[-1] + row["seconds"] * row["images_per_second"])
    flops = _TRAINING_FLOPS_PER_MAC * run.macs
    return {
        "epochs": [float(row["epoch"]) for row in rows],
        "seconds": seconds[1:],
        "images": [float(round(count)) for count in images[1:]],
        "flops": [count * flops for count in images[1:]],
    }


def _quantities(rows: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Quantity of `Y_AXES` -> its value after each epoch of a run; None if it was not measured."""
    values: dict[str, list[float | None]] = {name: [] for name in Y_AXES}
    for row in rows:
        train, val = _percent(row["train_accuracy"]), _percent(row["val_accuracy"])
        values["train_accuracy"].append(train)
        values["val_accuracy"].append(val)
        values["train_loss"].append(row["train_loss"])
        values["val_loss"].append(row["val_loss"])
        values["gap_accuracy"].append(_difference(train, val))
        values["gap_loss"].append(_difference(row["val_loss"], row["train_loss"]))
    return values


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _band(points: Sequence[Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Mean, and one standard deviation below and above it, at each point of a curve.

    Args:
        points: the values of all runs, for each point; if the value of a run is missing, the result at that point is
            None.
    """
    band: dict[str, list[float | None]] = {"mean": [], "low": [], "high": []}
    for point in points:
        values = [value for value in point if value is not None]
        is_complete = len(values) == len(point) and values
        mean = statistics.fmean(values) if is_complete else None
        deviation = statistics.stdev(values) if is_complete and len(values) > 1 else 0.0
        band["mean"].append(None if mean is None else round(mean, 5))
        band["low"].append(None if mean is None else round(mean - deviation, 5))
        band["high"].append(None if mean is None else round(mean + deviation, 5))
    return band
