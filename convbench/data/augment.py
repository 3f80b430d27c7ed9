"""Augmentation of uint8 batches on their device: per sample, by index arithmetic, normalised in the same pass.

Crop and flip only say which pixel goes where, so one gather from the resident data set does the shuffle, the crop and
the flip and writes the memory format the network wants. There is no boolean mask (a host wait on a GPU) and no loop
over samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from convbench.errors import UserError
from convbench.seeding import stable_seed, stream


@dataclass(frozen=True)
class Draws:
    """What chance decided for each of n samples; every field is int64 `(n,)`.

    Attributes:
        down, right: shift of the crop window against the image, in pixels.
        mirrored: 1 where the sample is flipped horizontally.
        cut_top, cut_left: corner of the square that cutout blanks, in pixels; may lie outside the image.
    """

    down: Tensor
    right: Tensor
    mirrored: Tensor
    cut_top: Tensor
    cut_left: Tensor

    def to(self, device: torch.device) -> "Draws":
        """The same draws on another device."""
        return Draws(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def __getitem__(self, part: slice | Tensor) -> "Draws":
        return Draws(*(getattr(self, field.name)[part] for field in fields(self)))


class Augment:
    """Which augmentations a run uses; `conf/augment/NAME.yaml` is its constructor call.

    Args:
        crop_padding: pixels by which the image is extended on each side before a window of its own size is cut out at
            random; 0 turns it off.
        padding_mode: `reflect` (mirror at the border, the border itself not repeated) or `zero` (black).
        flip: mirror half of the samples; `${data.flip}` keeps digits as they are.
        cutout: side of the square blanked to the mean colour, in pixels, centred at random (DeVries & Taylor, 2017);
            0 turns it off.
        mixup_alpha: parameter of the Beta distribution of MixUp (Zhang et al., ICLR 2018); 0 turns it off. One share is
            drawn for a batch, and each sample is mixed with its neighbour in the batch.
        cutmix_alpha: the same for CutMix (Yun et al., ICCV 2019), whose box is drawn once for a batch. With both above
            0 each batch takes one of them.

    Raises:
        UserError: for a value out of range.
    """

    def __init__(
        self,
        crop_padding: int = 0,
        padding_mode: str = "reflect",
        flip: bool = False,
        cutout: int = 0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
    ) -> None:
        if padding_mode not in ("reflect", "zero"):
            raise UserError(f"padding_mode is {padding_mode!r}; choose reflect or zero (augment.padding_mode)")
        for key, amount in (("crop_padding", crop_padding), ("cutout", cutout)):
            if not isinstance(amount, int) or amount < 0:
                raise UserError(f"{key} is {amount}; give 0 (off) or a whole number of pixels (augment.{key})")
        for key, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if not isinstance(alpha, int | float) or alpha < 0:
                raise UserError(f"{key} is {alpha}; give 0 (off) or a number above 0 (augment.{key})")
        self.crop_padding = crop_padding
        self.padding_mode = padding_mode
        self.flip = flip
        self.cutout = cutout
        self.mixup_alpha = float(mixup_alpha)  # torchvision cannot draw from Beta(1, 1), only from Beta(1.0, 1.0)
        self.cutmix_alpha = float(cutmix_alpha)

    def check(self, image_size: int) -> None:
        """See that these augmentations can be done to images of `image_size` pixels.

        Raises:
            UserError: if they cannot.
        """
        if self.padding_mode == "reflect" and self.crop_padding >= image_size:
            raise UserError(
                f"a crop padding of {self.crop_padding} cannot be reflected in an image of {image_size} pixels; "
                f"give at most {image_size - 1} (augment.crop_padding) or augment.padding_mode=zero"
            )

    def draw(self, count: int, image_size: int, seed: int, epoch: int) -> Draws:
        """Draw for `count` samples; each augmentation from its own stream, so that none disturbs another.

        Args:
            count: samples in the epoch.
            image_size: H = W in pixels.
            seed: of the run.
            epoch: counted from 0.
        """

        def integers(name: str, low: int, high: int) -> Tensor:
            return torch.randint(low, high, (count,), generator=stream(seed, name, epoch))

        pad, half = self.crop_padding, self.cutout // 2
        return Draws(
            down=integers("crop down", -pad, pad + 1),
            right=integers("crop right", -pad, pad + 1),
            mirrored=integers("flip", 0, 2) if self.flip else torch.zeros(count, dtype=torch.int64),
            cut_top=integers("cutout top", -half, image_size - half),
            cut_left=integers("cutout left", -half, image_size - half),
        )

    def mixer(self, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """MixUp and CutMix of torchvision for a batch `(N, C, H, W)` and labels `(N,)`, or None where both are off.

        Their labels come back as probabilities `(N, num_classes)`. They draw from the global CPU generator: see
        `mix_seed`.
        """
        if not (self.mixup_alpha or self.cutmix_alpha):
            return None
        from torchvision.transforms import v2  # 1.5 s, only where it is used

        both = []
        if self.mixup_alpha:
            both.append(v2.MixUp(alpha=self.mixup_alpha, num_classes=num_classes))
        if self.cutmix_alpha:
            both.append(v2.CutMix(alpha=self.cutmix_alpha, num_classes=num_classes))
        return both[0] if len(both) == 1 else v2.RandomChoice(both)


def mix_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of the global generator while batch `index` of an epoch is mixed."""
    return stable_seed(seed, "mix", epoch, index)


class Renderer:
    """Turns rows of a uint8 data set into network input.

    Args:
        mean, std: per channel in the 0..1 scale.
        augment: how training batches are varied.
        channels_last: write `(N, C, H, W)` batches in channels_last memory format.
        device: where data set and batches live.
    """

    def __init__(
        self,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augment: Augment,
        channels_last: bool,
        device: torch.device,
    ) -> None:
        self.augment = augment
        self.channels_last = channels_last
        self.device = device
        # (x/255 - mean)/std as one multiplication and one addition
        scale = 1.0 / (255.0 * torch.tensor(std))
        self.scale = scale.view(1, -1, 1, 1).to(device)
        self.shift = (-torch.tensor(mean) / torch.tensor(std)).view(1, -1, 1, 1).to(device)
        self._render: Callable[[Tensor, Tensor, Draws], Tensor] = self._augmented

    def compile(self) -> None:
        """Make one kernel of each batch's shuffle, augmentation and normalisation, at the next batch."""
        self._render = torch.compile(self._augmented)

    def plain(self, images: Tensor, rows: Tensor) -> Tensor:
        """Normalised float32 `(n, C, H, W)` of uint8 `images[rows]`."""
        return self._normalised(images.index_select(0, rows))

    def augmented(self, images: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        """The same, each sample cropped, flipped and blanked as `draws` says.

        Args:
            images: uint8 `(N, C, H, W)`, contiguous.
            rows: int64 `(n,)`.
            draws: for these n samples.
        """
        return self._render(images, rows, draws)

    def _augmented(self, images: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        channels, size = images.shape[1], images.shape[2]
        along = torch.arange(size, device=images.device)
        # The source row of each target row, (n, H), and the source column of each target column, (n, W). Like a
        # window cut from the padded image and then mirrored.
        down = along + draws.down[:, None]
        mirrored = draws.mirrored[:, None]
        right = along + mirrored * (size - 1 - 2 * along) + draws.right[:, None]
        source_row, source_column = self._inside(down, size), self._inside(right, size)
        pixel = (rows[:, None] * channels * size + source_row)[:, :, None] * size + source_column[:, None, :]
        channel = torch.arange(channels, device=images.device) * (size * size)
        if self.channels_last:  # gathered in the order in which it will lie in memory
            batch = images.take(pixel[..., None] + channel).permute(0, 3, 1, 2)
        else:
            batch = images.take(pixel[:, None] + channel[:, None, None])
        if self.augment.padding_mode == "zero" and self.augment.crop_padding:
            batch = batch * (_within(down, size)[:, None, :, None] & _within(right, size)[:, None, None, :])
        batch = self._normalised(batch)
        if self.augment.cutout:
            side = self.augment.cutout
            cut_rows = _within(along - draws.cut_top[:, None], side)
            cut_columns = _within(along - draws.cut_left[:, None], side)
            batch = batch * ~(cut_rows[:, None, :, None] & cut_columns[:, None, None, :])
        return batch

    def _inside(self, position: Tensor, size: int) -> Tensor:
        if self.augment.padding_mode == "zero":
            return position.clamp(0, size - 1)  # blackened afterwards
        return (size - 1) - ((size - 1) - position.abs()).abs()

    def _normalised(self, batch: Tensor) -> Tensor:
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return batch.to(torch.float32, memory_format=memory_format).mul_(self.scale).add_(self.shift)


def _within(position: Tensor, size: int) -> Tensor:
    return (position >= 0) & (position < size)
