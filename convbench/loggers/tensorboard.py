"""TensorBoard events, with the same tags and the same x-axis for every run, so that curves can be compared.

The x-axis is the number of training images seen, which is comparable between runs with different batch sizes.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from convbench.loggers.sink import EpochRow, RunStart, Sink, StepSummary

# The tab CUSTOM SCALARS shows the training and validation curves of all runs in one chart.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["loss/train", "loss/val"]],
        "accuracy": ["Multiline", ["accuracy/train", "accuracy/val"]],
    }
}


class TensorBoard(Sink):
    """Writes TensorBoard events into the run folder, whose name becomes the name of the curves."""

    def on_run_start(self, run: RunStart) -> None:
        """Open the event file. TensorBoard drops the events of a resumed run that are later than its checkpoint."""
        self._writer = SummaryWriter(str(run.folder), purge_step=run.images_seen + 1)
        self._writer.add_custom_scalars(LAYOUT)

    def on_summary(self, summary: StepSummary) -> None:
        """Write the learning rate and the temperature, which change within an epoch."""
        self._write_schedules(summary.lr, summary.temperature, summary.images_seen)

    def on_epoch_end(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Write the losses, the accuracies and the speed of an epoch."""
        self._write_schedules(row.lr, row.temperature, images_seen)
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
        """Write the chosen options and the final scores for the tab HPARAMS."""
        # With another run name, SummaryWriter would create a subfolder, which TensorBoard shows as a separate run.
        self._writer.add_hparams(dict(choices), dict(scores), run_name=".")

    def _write_schedules(self, lr: float, temperature: float | None, images_seen: int) -> None:
        self._writer.add_scalar("lr", lr, images_seen)
        if temperature is not None:
            self._writer.add_scalar("temperature", temperature, images_seen)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
