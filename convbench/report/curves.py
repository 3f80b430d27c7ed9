"""Curves of variants, mean and spread over seeds, against each axis that a reader may ask for."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convbench.report.variants import Variant
from convbench.run_folders.record import RunRecord

MOST_POINTS = 200  # of a curve; more than a screen shows

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
    "entropy": "entropy (0: one kernel, 1: all alike)",
    "top_share": "images on the most wanted kernel (share)",
    "similarity": "mean cosine between two kernels",
}
# A backward pass computes the gradients of inputs and of weights, each as much work as the forward pass; a
# multiply-accumulate is two operations.
_FLOPS_PER_MAC = 2 * 3


@dataclass(frozen=True)
class Curve:
    """Of a variant.

    Attributes:
        x: axis -> values, the mean over seeds.
        y: quantity -> mean, low and high values; one standard deviation to each side.
        label: beside the variant's own; empty for none.
    """

    x: dict[str, list[float]]
    y: dict[str, dict[str, list[float | None]]]
    label: str = ""


def learning_curve(variant: Variant) -> Curve | None:
    """Loss and accuracy over the epochs that all finished runs have; None where there are none."""
    runs = [(run, run.rows) for run in variant.finished.values()]
    epochs = min((len(rows) for _, rows in runs), default=0)
    if not epochs:
        return None
    axes = [_axes(run, rows[:epochs]) for run, rows in runs]
    quantities = [_quantities(rows[:epochs]) for _, rows in runs]
    kept = _kept(epochs)
    x = {axis: [round(statistics.fmean(each[axis][index] for each in axes), 3) for index in kept] for axis in X_AXES}
    y = {name: _band([[each[name][index] for each in quantities] for index in kept]) for name in Y_AXES}
    return Curve(x, y)


def routing_curves(variant: Variant) -> list[Curve]:
    """How per-image convolutions use their kernels: a curve for each layer, means over seeds."""
    runs = [rows for run in variant.finished.values() if (rows := run.routing())]
    epochs = min((len(rows) for rows in runs), default=0)
    if not epochs:
        return []
    kept = _kept(epochs)
    curves = []
    for layer in runs[0][0]["layers"]:
        values: dict[str, list[list[float | None]]] = {name: [] for name in ROUTING}
        for index in kept:
            told = [rows[index]["layers"][layer] for rows in runs if layer in rows[index]["layers"]]
            values["entropy"].append([each["entropy"] for each in told])
            values["top_share"].append([max(each["top_shares"]) for each in told])
            values["similarity"].append([each["similarity"] for each in told])
        x = {"epochs": [float(runs[0][index]["epoch"]) for index in kept]}
        curves.append(Curve(x, {name: _band(points) for name, points in values.items()}, layer))
    return curves


def _kept(epochs: int) -> list[int]:
    """Indices of the rows that are drawn, the last one among them."""
    if epochs <= MOST_POINTS:
        return list(range(epochs))
    return sorted({round(index * (epochs - 1) / (MOST_POINTS - 1)) for index in range(MOST_POINTS)})


def _axes(run: RunRecord, rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    seconds, images = [0.0], [0.0]
    for row in rows:
        seconds.append(seconds[-1] + row["seconds"])
        images.append(images[-1] + row["seconds"] * row["images_per_second"])
    flops = _FLOPS_PER_MAC * run.macs
    return {
        "epochs": [float(row["epoch"]) for row in rows],
        "seconds": seconds[1:],
        "images": [float(round(count)) for count in images[1:]],
        "flops": [count * flops for count in images[1:]],
    }


def _quantities(rows: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    values: dict[str, list[float | None]] = {name: [] for name in Y_AXES}
    for row in rows:
        train, val = _percent(row["train_accuracy"]), _percent(row["val_accuracy"])
        values["train_accuracy"].append(train)
        values["val_accuracy"].append(val)
        values["train_loss"].append(row["train_loss"])
        values["val_loss"].append(row["val_loss"])
        values["gap_accuracy"].append(_minus(train, val))
        values["gap_loss"].append(_minus(row["val_loss"], row["train_loss"]))
    return values


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _band(points: Sequence[Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Mean, and one standard deviation below and above; None where a run has no number."""
    band: dict[str, list[float | None]] = {"mean": [], "low": [], "high": []}
    for point in points:
        values = [value for value in point if value is not None]
        is_whole = len(values) == len(point) and values
        mean = statistics.fmean(values) if is_whole else None
        spread = statistics.stdev(values) if is_whole and len(values) > 1 else 0.0
        band["mean"].append(None if mean is None else round(mean, 5))
        band["low"].append(None if mean is None else round(mean - spread, 5))
        band["high"].append(None if mean is None else round(mean + spread, 5))
    return band
