"""TensorBoard events, with the same tags and the same axis for every run, so that curves overlay.

The x-axis is the number of training images seen, which stays comparable when batch sizes differ.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from convbench.logs.reporter import EpochRow, Look, Reporter

# The tab CUSTOM SCALARS: training and validation of all runs on one chart.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["loss/train", "loss/val"]],
        "accuracy": ["Multiline", ["accuracy/train", "accuracy/val"]],
    }
}


class TensorBoard(Reporter):
    """Writes the events of a run into its folder.

    Args:
        folder: of the run; its name is the name of the curve.
        images_seen: where a resumed run goes on; events from there on are dropped.
    """

    def __init__(self, folder: Path, images_seen: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=images_seen + 1)
        self._writer.add_custom_scalars(LAYOUT)

    def look(self, look: Look) -> None:
        """Learning rate and temperature, whose shape within an epoch matters."""
        self._clock(look.lr, look.temperature, look.images_seen)

    def epoch(self, row: EpochRow, images_seen: int, is_best: bool) -> None:
        """Losses, accuracies and speed of an epoch."""
        self._clock(row.lr, row.temperature, images_seen)
        values = {
            "loss/train": row.train_loss,
            "loss/val": row.val_loss,
            "accuracy/train": row.train_accuracy,
            "accuracy/val": row.val_accuracy,
            "speed/images_per_second": row.images_per_second,
        }
        self.scalars(values, images_seen)

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Values by tag."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, images_seen)
        self._writer.flush()

    def pictures(self, pictures: Mapping[str, Tensor], images_seen: int) -> None:
        """Pictures by tag, uint8 `(C, H, W)`."""
        for tag, picture in pictures.items():
            self._writer.add_image(tag, picture, images_seen)
        self._writer.flush()

    def outcome(self, choices: Mapping[str, str | float | bool], scores: Mapping[str, float]) -> None:
        """What was chosen and what came out, for the tab HPARAMS."""
        # of the name ".", lest it become a run beside this one
        self._writer.add_hparams(dict(choices), dict(scores), run_name=".")

    def _clock(self, lr: float, temperature: float | None, images_seen: int) -> None:
        self._writer.add_scalar("lr", lr, images_seen)
        if temperature is not None:
            self._writer.add_scalar("temperature", temperature, images_seen)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
