"""TensorBoard runs for each variant: the mean over seeds, and one standard deviation below and above it."""

import shutil
from pathlib import Path

from convbench.config.naming import folder_name
from convbench.report.comparison import Report

_TAGS = {
    "loss/train": ("train_loss", 1.0),
    "loss/val": ("val_loss", 1.0),
    "accuracy/train": ("train_accuracy", 0.01),
    "accuracy/val": ("val_accuracy", 0.01),
}
_RUN_NAMES = {"mean": "mean", "low": "mean - sigma", "high": "mean + sigma"}


def write_tensorboard(report: Report, folder: Path) -> None:
    """Write runs `VARIANT/mean`, `VARIANT/mean - sigma` and `VARIANT/mean + sigma`, with the tags of a training run.

    Args:
        report: the comparison.
        folder: the folder to write to; an existing one is removed first.
    """
    from torch.utils.tensorboard import SummaryWriter  # here, as importing PyTorch takes seconds

    from convbench.loggers.tensorboard import LAYOUT

    shutil.rmtree(folder, ignore_errors=True)
    for index, curve in report.curves.items():
        name = folder_name(report.comparison.variants[index].label)
        for part, title in _RUN_NAMES.items():
            with SummaryWriter(str(folder / name / title)) as writer:
                writer.add_custom_scalars(LAYOUT)
                for tag, (quantity, factor) in _TAGS.items():
                    for images, value in zip(curve.x["images"], curve.y[quantity][part], strict=True):
                        if value is not None:
                            writer.add_scalar(tag, factor * value, round(images))
