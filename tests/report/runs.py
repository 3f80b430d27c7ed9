"""Run folders with given results, in the format of a training run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from convbench.config.naming import config_hash
from convbench.run_folders.run_folder import RunFolder


def write_run(
    folder: Path,
    conv: str = "standard",
    seed: int = 0,
    accuracy: float = 0.75,
    epochs: int = 3,
    changes: dict[str, Any] | None = None,
    test_images: int = 10_000,
    class_count: int = 10,
    without: Sequence[str] = (),
    **results: Any,
) -> Path:
    """Write the folder of a finished run and return it.

    Args:
        folder: the run folder.
        conv: the convolution.
        seed: the seed.
        accuracy: the accuracy on the test set, and on the validation set after the last epoch, from 0 to 1.
        epochs: the number of epochs; the validation accuracy rises linearly from epoch to epoch.
        changes: dotted keys of the configuration and their values, which replace the defaults.
        test_images: the number of images of the test set and of the validation set.
        class_count: the number of classes.
        without: entries of `results.json` to leave out.
        results: entries of `results.json`, which replace the defaults.
    """
    config = OmegaConf.create(
        {
            "data": {"_target_": "convbench.data.shapes.Shapes", "train": 100},
            "conv": {"_target_": f"convbench.convs.{conv}", "skip": []},
            "model": {"_target_": "convbench.models.resnet", "depth": 8},
            "optimizer": {"lr": 0.1},
            "engine": {"threads": 2},
            "seed": seed,
            "epochs": epochs,
        }
    )
    for key, value in (changes or {}).items():
        OmegaConf.update(config, key, value)
    run = RunFolder(folder)
    run.write_config(config)
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        run.append_metrics(
            {
                "epoch": epoch,
                "step": 10 * epoch,
                "train_loss": 2 - share,
                "train_accuracy": min(1.0, accuracy * share + 0.05),
                "val_loss": 2.1 - share,
                "val_accuracy": accuracy * share,
                "lr": 0.1,
                "temperature": None,
                "seconds": 2.0,
                "images_per_second": 50.0,
            }
        )
    score = {"loss": 1 - accuracy, "accuracy": accuracy}
    counted = score | {"correct": round(accuracy * test_images), "images": test_images}
    counted["predicted_classes"] = class_count
    defaults: dict[str, Any] = {
        "status": "finished",
        "error": None,
        "config_hash": config_hash(config),
        "variant_hash": config_hash(config, leave_out=("seed",)),
        "command": f"python -m convbench.train conv={conv} seed={seed}",
        "choices": {"data": "shapes", "conv": conv, "model": "resnet", "optimizer": "sgd"},
        "data": "shapes",
        "conv": conv,
        "model": "resnet8",
        "seed": seed,
        "epochs": epochs,
        "epochs_done": epochs,
        "params": 1000,
        "macs": 2_000_000,
        "train": score,
        "val": score,
        "best": {"epoch": epochs, "val": score, "test": counted},
        "test": counted,
        "seconds_per_epoch": 2.0,
        "images_per_second": 50.0,
        "seconds_total": 6.5,
        "peak_memory_bytes": 10**9,
        "device": "cpu (2 threads)",
        "code": "0123456789ab",
        "versions": {"torch": "2.15.0"},
        "compiled": False,
        "computed": [computed()],
        "images": {"train": 100, "val": test_images, "test": test_images},
        "classes": [f"class{number}" for number in range(class_count)],
        "identity": {"splits": {split: {"digest": split} for split in ("train", "val", "test")}},
        "began_at": "2026-11-21T10:00:00.000+00:00",
        "ended_at": "2026-11-21T10:00:06.500+00:00",
    }
    run.update_results(**{key: value for key, value in (defaults | results).items() if key not in without})
    return folder


def computed(**changes: Any) -> dict[str, Any]:
    """The record of how a part of a run was computed; `changes` replace the defaults."""
    return {
        "from_epoch": 0,
        "code": "0123456789ab",
        "torch": "2.15.0",
        "device": "cpu (2 threads)",
        "threads": 2,
        "precision": "none",
        "compiled": False,
        "implementations": "standard: library",
    } | changes


# Entries of `results.json` that runs of older versions lack.
OLD = ("computed", "images", "classes", "identity")


def write_sweep(folder: Path, accuracies: dict[str, list[float]], **others: Any) -> Path:
    """Write a run for each convolution and seed; `accuracies` lists the accuracies of a convolution by seed."""
    for conv, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            write_run(folder / f"conv={conv},seed={seed}", conv, seed, accuracy, **others)
    return folder


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())
