"""`metrics.jsonl` and `results.json`, brought up to date after every epoch."""

import statistics
import time
from dataclasses import asdict

from convbench.loggers.sink import EpochRow, Sink
from convbench.run_folders.folder import RunFolder


class Results(Sink):
    """Writes a row an epoch, and what the run has come to so far.

    Args:
        folder: of the run.
        began: `time.perf_counter()` at its start, earlier parts of a resumed run included.
        epochs_done: before a resumed run goes on; rows of later epochs are dropped.
    """

    def __init__(self, folder: RunFolder, began: float, epochs_done: int) -> None:
        self.folder = folder
        self.began = began
        self.rows = folder.keep_metrics(epochs_done)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Add the row; update losses, speed and, where it is the best, the best epoch."""
        self.folder.append_metrics(asdict(row))
        self.rows.append(asdict(row))
        if is_best:
            best = {"epoch": row.epoch, "val": {"loss": row.val_loss, "accuracy": row.val_accuracy}}
            self.folder.results["best"] = best
        self.folder.update_results(
            train={"loss": row.train_loss, "accuracy": row.train_accuracy},
            val={"loss": row.val_loss, "accuracy": row.val_accuracy},
            epochs_done=row.epoch,
            # the first epoch pays for warm caches, autotuning and compilation
            seconds_per_epoch=self._median("seconds"),
            images_per_second=self._median("images_per_second"),
            seconds_total=time.perf_counter() - self.began,
        )

    def _median(self, key: str) -> float:
        return statistics.median(row[key] for row in self.rows[1:] or self.rows)
