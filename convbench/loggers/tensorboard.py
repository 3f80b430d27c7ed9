"""TensorBoard events, with the same tags and the same axis for every run, so that curves overlay.

The x-axis is the number of training images seen, which stays comparable when batch sizes differ.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from convbench.loggers.sink import EpochRow, RunStart, Sink, StepSummary

# The tab CUSTOM SCALARS: training and validation of all runs on one chart.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["loss/train", "loss/val"]],
        "accuracy": ["Multiline", ["accuracy/train", "accuracy/val"]],
    }
}


class TensorBoard(Sink):
    """Writes the events of a run into its folder, whose name is the name of the curve."""

    def on_run_start(self, run: RunStart) -> None:
        """Open the event file; of a resumed run, events after the point where it goes on are dropped."""
        self._writer = SummaryWriter(str(run.folder), purge_step=run.images_seen + 1)
        self._writer.add_custom_scalars(LAYOUT)

    def on_summary(self, summary: StepSummary) -> None:
        """Learning rate and temperature, whose shape within an epoch matters."""
        self._clock(summary.lr, summary.temperature, summary.images_seen)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Losses, accuracies and speed of an epoch."""
        self._clock(row.lr, row.temperature, images_seen)
        values = {
            "loss/train": row.train_loss,
            "loss/val": row.val_loss,
            "accuracy/train": row.train_accuracy,
            "accuracy/val": row.val_accuracy,
            "speed/images_per_second": row.images_per_second,
        }
        self.on_scalars(values, images_seen)

    def on_scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Write numbers by tag."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, images_seen)
        self._writer.flush()

    def on_images(self, images: Mapping[str, Tensor], images_seen: int) -> None:
        """Write images by tag, uint8 `(C, H, W)`."""
        for tag, image in images.items():
            self._writer.add_image(tag, image, images_seen)
        self._writer.flush()

    def on_run_end(self, choices: Mapping[str, str | float | bool], scores: Mapping[str, float]) -> None:
        """Write choices and scores for the tab HPARAMS."""
        # The name "." keeps them from becoming a run beside this one.
        self._writer.add_hparams(dict(choices), dict(scores), run_name=".")

    def _clock(self, lr: float, temperature: float | None, images_seen: int) -> None:
        self._writer.add_scalar("lr", lr, images_seen)
        if temperature is not None:
            self._writer.add_scalar("temperature", temperature, images_seen)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
