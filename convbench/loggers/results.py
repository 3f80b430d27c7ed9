"""The files `metrics.jsonl` and `results.json` of a run, updated after every epoch."""

import statistics
import time
from dataclasses import asdict

from convbench.loggers.sink import EpochRow, Sink
from convbench.run_folders.run_folder import RunFolder


class Results(Sink):
    """Writes the metrics of each epoch, and the latest and best results.

    Args:
        folder: The run folder.
        began: The value of `time.perf_counter()` at the start of the run. For a resumed run it is earlier by the time
            that the run has taken before.
        epochs_done: Number of epochs in the checkpoint of a resumed run; rows of later epochs are removed.
    """

    def __init__(self, folder: RunFolder, began: float, epochs_done: int) -> None:
        self.folder = folder
        self.began = began
        self.rows = folder.truncate_metrics(epochs_done)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Add the row of an epoch, and update the losses, the speed and, if `is_best`, the best epoch."""
        self.folder.append_metrics(asdict(row))
        self.rows.append(asdict(row))
        if is_best:
            best = {"epoch": row.epoch, "val": {"loss": row.val_loss, "accuracy": row.val_accuracy}}
            self.folder.results["best"] = best
        self.folder.update_results(
            train={"loss": row.train_loss, "accuracy": row.train_accuracy},
            val={"loss": row.val_loss, "accuracy": row.val_accuracy},
            epochs_done=row.epoch,
            # Medians without the first epoch, whose time includes cold caches, autotuning and compilation.
            seconds_per_epoch=self._median("seconds"),
            images_per_second=self._median("images_per_second"),
            seconds_total=time.perf_counter() - self.began,
        )

    def _median(self, key: str) -> float:
        return statistics.median(row[key] for row in self.rows[1:] or self.rows)
