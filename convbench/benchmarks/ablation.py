"""An ablation of techniques that make a training loop fast.

The baseline, a loop without any technique, does what most training scripts on the web do. Each technique can be
switched on by itself, so that a loop can have any subset of them. The techniques are those of PyTorch's performance
tuning guide, and data on the device.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from convbench.data.augment import Augment, Renderer
from convbench.data.resident import TrainBatches
from convbench.data.types import Split, Splits
from convbench.engine.device import autocast

LR = 0.01


@dataclass(frozen=True)
class Technique:
    """A technique that a training loop can use or not.

    Attributes:
        name: name of the technique in tables.
        text: description of what it does.
        devices: types of device on which it can be switched on and off.
    """

    name: str
    text: str
    devices: tuple[str, ...] = ("cpu", "cuda", "mps")


_AUTO = "fastest implementations"
TECHNIQUES = (
    Technique("device augmentation", "crops and flips of a whole batch at once, instead of one PIL image at a time"),
    Technique("data on the device", "the uint8 images are stored on the device of the network, without a DataLoader"),
    Technique("grad=None", "gradients are set to None instead of filled with zeros"),
    Technique("no host reads", "loss and accuracy are summed on the device, not read with .item() in every step"),
    Technique("no bias before norm", "convolutions have no bias, because the batch norm after them subtracts it again"),
    Technique("tuned kernels", "cudnn.benchmark=True, and TF32 matrix products", ("cuda",)),
    Technique("channels_last", "images and weights are in the memory format channels_last"),
    Technique("autocast", "mixed precision with bfloat16", ("cuda",)),
    Technique("fused optimizer", "one kernel updates all parameters"),
    Technique(_AUTO, "each layer uses its fastest implementation, as measured: conv.implementation=auto"),
    Technique("compile", "torch.compile"),
    Technique("CUDA graph", "one launch for a whole step: torch.compile in the mode reduce-overhead", ("cuda",)),
)


def techniques(device: torch.device, has_choice: bool) -> list[str]:
    """The names of the techniques that apply to a device.

    Args:
        device: device to train on.
        has_choice: whether the network has convolutions with the implementation `auto`.
    """
    names = [technique.name for technique in TECHNIQUES if device.type in technique.devices]
    return [name for name in names if has_choice or name != _AUTO]


class Loop:
    """A training loop that uses some of the techniques.

    Args:
        build: builds the network with swapped convolutions; its argument says whether convolutions before a norm have
            a bias.
        choose: sets the fastest implementation in convolutions that have the implementation `auto`; its arguments are
            the network on its device, the precision and the memory format.
        splits: the images, on the CPU.
        augment: augmentation of the training images: crops and flips.
        num_classes: number of classes.
        batch_size: number of images in a step.
        device: device to train on.
        names: names of the techniques in use.
        seed: seed of the initial weights, the order of the images and the augmentation.
    """

    def __init__(
        self,
        build: Callable[[bool], nn.Module],
        choose: Callable[[nn.Module, str, torch.memory_format], object],
        splits: Splits,
        augment: Augment,
        num_classes: int,
        batch_size: int,
        device: torch.device,
        names: frozenset[str],
        seed: int,
    ) -> None:
        self.device = device
        self.names = names
        torch.manual_seed(seed)
        channels_last = "channels_last" in names
        self.network = build("no bias before norm" not in names).to(device).train()
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        precision = "bf16" if "autocast" in names else "none"
        if _AUTO in names:
            choose(self.network, precision, torch.channels_last if channels_last else torch.contiguous_format)
        if "compile" in names:
            self.network.compile(mode="reduce-overhead" if "CUDA graph" in names else None)
        fused = {"fused": True} if "fused optimizer" in names else {"foreach": False}
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=5e-4, **fused
        )
        self.autocast = autocast(device, precision)
        self.sums = torch.zeros(2, device=device)
        self.batches = self._endless_batches(splits, augment, channels_last, num_classes, batch_size, seed)

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = "tuned kernels" in self.names
            torch.set_float32_matmul_precision("high" if "tuned kernels" in self.names else "highest")
        for _ in range(count):
            self._step(*next(self.batches))

    def _step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none="grad=None" in self.names)
        with self.autocast:
            logits = self.network(images)
            loss = functional.cross_entropy(logits, labels)
        loss.backward()
        self.optimizer.step()
        correct = (logits.argmax(1) == labels).sum()
        if "no host reads" in self.names:
            self.sums += torch.stack([loss.detach(), correct])
        else:
            self.loss, self.correct = loss.item(), correct.item()

    def _endless_batches(
        self, splits: Splits, augment: Augment, channels_last: bool, num_classes: int, batch_size: int, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        renderer = Renderer(splits.mean, splits.std, augment, channels_last, self.device)
        if "data on the device" in self.names:
            split = splits.train
            assert split.labels is not None
            resident = Split(
                split.images.to(self.device), split.labels.to(self.device), split.indices.to(self.device), split.names
            )
            batches = TrainBatches(resident, batch_size, renderer, num_classes, seed)
            return (batch for epoch in itertools.count() for batch in batches.epoch(epoch))
        return self._data_loader_batches(splits, augment, renderer, batch_size, seed)

    def _data_loader_batches(
        self, splits: Splits, augment: Augment, renderer: Renderer, batch_size: int, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        on_device = "device augmentation" in self.names
        loader = DataLoader(
            _Samples(splits, None if on_device else _pil_transform(splits, augment)),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
            pin_memory=self.device.type == "cuda",
        )
        for epoch in itertools.count():
            for index, (images, labels) in enumerate(loader):
                images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
                if on_device:
                    rows = torch.arange(len(images), device=self.device)
                    draws = augment.draw(len(images), images.shape[-1], seed, epoch * len(loader) + index)
                    images = renderer.augmented(images, rows, draws.to(self.device))
                elif renderer.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                yield images, labels


class _Samples(Dataset[tuple[Any, int]]):
    """One image at a time: a PIL image after a transform, as in most scripts, or the uint8 tensor `(C, H, W)`."""

    def __init__(self, splits: Splits, transform: Callable[[Any], Tensor] | None) -> None:
        self.split = splits.train
        self.transform = transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        assert self.split.labels is not None
        row = int(self.split.indices[index])
        image, label = self.split.images[row], int(self.split.labels[row])
        if self.transform is None:
            return image, label
        pixels = image.squeeze(0).numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
        return self.transform(Image.fromarray(pixels)), label


def _pil_transform(splits: Splits, augment: Augment) -> Callable[[Any], Tensor]:
    from torchvision import transforms

    steps: list[Any] = []
    if augment.crop_padding:
        mode = "reflect" if augment.padding_mode == "reflect" else "constant"
        size = splits.train.images.shape[-1]
        steps.append(transforms.RandomCrop(size, padding=augment.crop_padding, padding_mode=mode))
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip())
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(splits.mean, splits.std)])
