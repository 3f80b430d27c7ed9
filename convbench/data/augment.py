"""Augmentation of uint8 batches on their device by index arithmetic, with the normalisation in the same pass.

A crop or a flip only changes the position of each pixel. One gather from the resident data set therefore performs the
shuffle, the crop and the flip, and it writes the memory format that the network expects. There is no boolean mask,
which would make the host wait for the GPU, and no loop over samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from convbench.errors import UserError
from convbench.seeding import stable_seed, stream


@dataclass(frozen=True)
class AugmentationParameters:
    """Random augmentation parameters of n samples; every field is int64 `(n,)`.

    Attributes:
        down, right: offset of the crop window from the image, in pixels.
        mirrored: 1 where the sample is flipped horizontally, else 0.
        cut_top, cut_left: top left corner of the cutout square, in pixels; it may lie outside the image.
    """

    down: Tensor
    right: Tensor
    mirrored: Tensor
    cut_top: Tensor
    cut_left: Tensor

    def to(self, device: torch.device) -> "AugmentationParameters":
        """The same parameters on another device."""
        return AugmentationParameters(
            *(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self))
        )

    def __getitem__(self, part: slice | Tensor) -> "AugmentationParameters":
        return AugmentationParameters(*(getattr(self, field.name)[part] for field in fields(self)))


class Augment:
    """Augmentations of the training images; `conf/augment/NAME.yaml` holds the arguments of this constructor.

    Args:
        crop_padding: number of pixels by which each side of the image is extended before a window of the original size
            is cut out at random; 0 disables the crop.
        padding_mode: `reflect` (mirror at the border without repeating the border pixel) or `zero` (black).
        flip: whether to flip each sample horizontally with probability 1/2; `${data.flip}` is false for digits.
        cutout: side length of the square that is set to the mean colour, in pixels, with a random centre (DeVries &
            Taylor, 2017); 0 disables cutout.
        mixup_alpha: parameter of the Beta distribution of MixUp (Zhang et al., ICLR 2018); 0 disables MixUp. One mixing
            weight is drawn per batch, and each sample is mixed with its neighbour in the batch.
        cutmix_alpha: parameter of the Beta distribution of CutMix (Yun et al., ICCV 2019), whose box is drawn once per
            batch; 0 disables CutMix. If both are above 0, each batch uses one of them at random.

    Raises:
        UserError: if a value is out of range.
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
        self.mixup_alpha = float(mixup_alpha)  # torchvision accepts Beta(1.0, 1.0), but not Beta(1, 1)
        self.cutmix_alpha = float(cutmix_alpha)

    def check(self, image_size: int) -> None:
        """Check that these augmentations are possible for images of `image_size` pixels.

        Raises:
            UserError: if the crop padding is too large to be reflected.
        """
        if self.padding_mode == "reflect" and self.crop_padding >= image_size:
            raise UserError(
                f"a crop padding of {self.crop_padding} cannot be reflected in an image of {image_size} pixels; "
                f"give at most {image_size - 1} (augment.crop_padding) or augment.padding_mode=zero"
            )

    def draw(self, count: int, image_size: int, seed: int, epoch: int) -> AugmentationParameters:
        """Draw the augmentation parameters of all samples of an epoch.

        Each augmentation has its own random stream, so that enabling one of them does not change the others.

        Args:
            count: number of samples in the epoch.
            image_size: H = W in pixels.
            seed: seed of the run.
            epoch: index of the epoch, from 0.
        """

        def integers(name: str, low: int, high: int) -> Tensor:
            return torch.randint(low, high, (count,), generator=stream(seed, name, epoch))

        pad, half = self.crop_padding, self.cutout // 2
        return AugmentationParameters(
            down=integers("crop down", -pad, pad + 1),
            right=integers("crop right", -pad, pad + 1),
            mirrored=integers("flip", 0, 2) if self.flip else torch.zeros(count, dtype=torch.int64),
            cut_top=integers("cutout top", -half, image_size - half),
            cut_left=integers("cutout left", -half, image_size - half),
        )

    def mixer(self, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """MixUp and CutMix of torchvision for a batch `(N, C, H, W)` and labels `(N,)`; None if both are disabled.

        The returned labels are probabilities `(N, num_classes)`. The transforms draw from the global CPU generator,
        which is seeded with `mix_seed`.
        """
        if not (self.mixup_alpha or self.cutmix_alpha):
            return None
        from torchvision.transforms import v2  # imported only if needed: it takes 1.5 s

        transforms = []
        if self.mixup_alpha:
            transforms.append(v2.MixUp(alpha=self.mixup_alpha, num_classes=num_classes))
        if self.cutmix_alpha:
            transforms.append(v2.CutMix(alpha=self.cutmix_alpha, num_classes=num_classes))
        return transforms[0] if len(transforms) == 1 else v2.RandomChoice(transforms)


def mix_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of the global generator for MixUp and CutMix of batch `index` of an epoch."""
    return stable_seed(seed, "mix", epoch, index)


class Renderer:
    """Conversion of rows of a uint8 data set to network input.

    Args:
        mean, std: mean and standard deviation per channel, for pixel values from 0 to 1.
        augment: augmentations of the training batches.
        channels_last: whether to write batches `(N, C, H, W)` in channels_last memory format.
        device: device of the data set and of the batches.
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
        # Computes (x/255 - mean)/std with one multiplication and one addition.
        scale = 1.0 / (255.0 * torch.tensor(std))
        self.scale = scale.view(1, -1, 1, 1).to(device)
        self.shift = (-torch.tensor(mean) / torch.tensor(std)).view(1, -1, 1, 1).to(device)
        self._render: Callable[[Tensor, Tensor, AugmentationParameters], Tensor] = self._augmented

    def compile(self) -> None:
        """Fuse shuffle, augmentation and normalisation into one kernel, which is compiled at the next batch."""
        self._render = torch.compile(self._augmented)

    def plain(self, images: Tensor, rows: Tensor) -> Tensor:
        """Normalise uint8 `images[rows]` to float32 `(n, C, H, W)`."""
        return self._normalised(images.index_select(0, rows))

    def augmented(self, images: Tensor, rows: Tensor, draws: AugmentationParameters) -> Tensor:
        """Crop, flip, blank and normalise uint8 `images[rows]` to float32 `(n, C, H, W)`.

        Args:
            images: uint8 `(N, C, H, W)`, contiguous.
            rows: int64 `(n,)`.
            draws: augmentation parameters of these n samples.
        """
        return self._render(images, rows, draws)

    def _augmented(self, images: Tensor, rows: Tensor, draws: AugmentationParameters) -> Tensor:
        channels, size = images.shape[1], images.shape[2]
        target = torch.arange(size, device=images.device)
        # For each target row, (n, H), and each target column, (n, W), the index in the padded image, relative to the
        # image itself. The window is cut out first and mirrored afterwards.
        padded_row = target + draws.down[:, None]
        mirrored = draws.mirrored[:, None]
        padded_column = target + mirrored * (size - 1 - 2 * target) + draws.right[:, None]
        source_row, source_column = self._source_index(padded_row, size), self._source_index(padded_column, size)
        pixel = (rows[:, None] * channels * size + source_row)[:, :, None] * size + source_column[:, None, :]
        channel = torch.arange(channels, device=images.device) * (size * size)
        if self.channels_last:  # gather as (n, H, W, C), the order of this format in memory
            batch = images.take(pixel[..., None] + channel).permute(0, 3, 1, 2)
        else:
            batch = images.take(pixel[:, None] + channel[:, None, None])
        if self.augment.padding_mode == "zero" and self.augment.crop_padding:
            batch = batch * (
                _within(padded_row, size)[:, None, :, None] & _within(padded_column, size)[:, None, None, :]
            )
        batch = self._normalised(batch)
        if self.augment.cutout:
            side = self.augment.cutout
            cut_rows = _within(target - draws.cut_top[:, None], side)
            cut_columns = _within(target - draws.cut_left[:, None], side)
            batch = batch * ~(cut_rows[:, None, :, None] & cut_columns[:, None, None, :])
        return batch

    def _source_index(self, padded_index: Tensor, size: int) -> Tensor:
        """Index in the image of the pixel that the padding shows at an index of the padded image."""
        if self.augment.padding_mode == "zero":
            return padded_index.clamp(0, size - 1)  # the caller sets padded pixels to zero afterwards
        return (size - 1) - ((size - 1) - padded_index.abs()).abs()

    def _normalised(self, batch: Tensor) -> Tensor:
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return batch.to(torch.float32, memory_format=memory_format).mul_(self.scale).add_(self.shift)


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)
