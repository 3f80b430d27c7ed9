"""The common structure of residual networks: stem, stages of residual blocks, average pooling and a linear layer."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from convbench.errors import UserError
from convbench.models.arguments import check_dropout

_STEMS = ("3x3", "3x3_bias", "7x7")


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Create the projection of a shortcut (option B of the ResNet paper), or return None for an identity shortcut.

    The projection is a 1x1 convolution with batch norm, for blocks that change the shape.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class ResidualNetwork(nn.Module):
    """A residual network for images `(N, in_channels, H, W)`; returns logits `(N, num_classes)`.

    Modules have the names of those of the ResNets of torchvision. Weights have the default initialisation of
    `nn.Conv2d` and `nn.Linear`. The papers use that of He et al., which has a larger variance. A norm before or after
    every convolution, except for the stem `3x3_bias`, removes this difference in scale.

    Args:
        name: Name of the network, such as `resnet14`.
        block: Callable that creates a block from `(in_channels, width, stride)`. The first block of every stage but the
            first has stride 2.
        blocks: Number of blocks in each stage.
        widths: Width of the blocks in each stage.
        expansion: Number of output channels of a block divided by its width.
        stem_width: Number of channels of the stem.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        stem: `3x3`, `3x3_bias` (a convolution with bias and without norm) or `7x7` (stride 2, then max pooling with
            stride 2).
        dropout: Dropout probability before the last layer.
        norm_last: Whether a batch norm and a ReLU follow the last stage instead of the stem. This is the structure for
            blocks that begin with a norm and a ReLU.

    Raises:
        UserError: The stem does not exist, or the dropout is out of range.
    """

    def __init__(
        self,
        name: str,
        block: Callable[[int, int, int], nn.Module],
        blocks: Sequence[int],
        widths: Sequence[int],
        expansion: int,
        stem_width: int,
        num_classes: int,
        in_channels: int,
        stem: str,
        dropout: float,
        norm_last: bool = False,
    ) -> None:
        super().__init__()
        if stem not in _STEMS:
            raise UserError(f"{name} has no stem {stem!r}; choose {', '.join(_STEMS)} (model.stem)")
        check_dropout(dropout)
        self.name = name
        self.widths = tuple(widths)
        # The smallest size for which no stage with stride 2 gets an image of a single row.
        self.min_image_size = 2 ** (len(blocks) - 1) * (4 if stem == "7x7" else 1)
        self.norm_last = norm_last

        if stem == "7x7":
            self.conv1 = nn.Conv2d(in_channels, stem_width, 7, stride=2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(in_channels, stem_width, 3, padding=1, bias=stem == "3x3_bias")
            self.maxpool = nn.Identity()
        out_channels = widths[-1] * expansion
        if norm_last:
            self.bn1: nn.Module = nn.BatchNorm2d(out_channels)
        else:
            self.bn1 = nn.Identity() if stem == "3x3_bias" else nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        channels = stem_width
        self.stages = [f"layer{index}" for index in range(1, len(blocks) + 1)]
        for index, (stage, count, width) in enumerate(zip(self.stages, blocks, widths, strict=True)):
            layers = []
            for position in range(count):
                layers.append(block(channels, width, 2 if index > 0 and position == 0 else 1))
                channels = width * expansion
            self.add_module(stage, nn.Sequential(*layers))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(N, num_classes)` of images `(N, in_channels, H, W)`."""
        x = self.conv1(x)
        x = self.maxpool(x if self.norm_last else self.relu(self.bn1(x)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        if self.norm_last:
            x = self.relu(self.bn1(x))
        return self.fc(self.dropout(x.mean((2, 3))))
