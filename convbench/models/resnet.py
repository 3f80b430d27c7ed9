"""ResNets of the CIFAR and the ImageNet family, built from plain `nn.Conv2d`.

The CIFAR family (depth 6n+2, three stages of 16/32/64 channels) and the ImageNet family (depth 18, 34, 50, 101, 152;
four stages of 64/128/256/512 channels) are those of He et al., "Deep Residual Learning for Image Recognition", CVPR
2016. If a block changes the shape, its shortcut is a 1x1 projection (option B of the paper). Modules have the names of
those in torchvision, so that the weights of its ResNets can be loaded if the shapes agree.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from convbench.errors import UserError
from convbench.models.arguments import checked_widths
from convbench.models.residual import ResidualNetwork, projection

_CIFAR_WIDTHS = (16, 32, 64)
_IMAGENET_WIDTHS = (64, 128, 256, 512)
_IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BasicBlock(nn.Module):
    """A residual block of two 3x3 convolutions, `(N, C_in, H, W)` to `(N, width, H/stride, W/stride)`."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """A residual block of a 1x1, a 3x3 and a 1x1 convolution, the second with the stride.

    Input `(N, C_in, H, W)`, output `(N, 4*width, H/stride, W/stride)`.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(ResidualNetwork):
    """A ResNet for images `(N, in_channels, H, W)`; returns logits `(N, num_classes)`.

    Args:
        depth: Number of layers: 8, 14, 20, 26, 32, 44, 56, 110 (any 6n+2 but 50: CIFAR family) or 18, 34, 50, 101, 152
            (ImageNet family).
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        stem: `3x3` (convolution and batch norm), `3x3_bias` (a convolution with bias and without norm, the stem of the
            dog-cat-bird network in "channels selection convolution") or `7x7` (convolution with stride 2, batch norm
            and max pooling with stride 2, for images of about 224 pixels).
        widths: Number of channels of each stage. None uses those of the family.
        dropout: Dropout probability before the last layer.

    Raises:
        UserError: The depth or the stem does not exist, the number of widths is wrong, or the dropout is out of range.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int = 3,
        stem: str = "3x3",
        widths: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        block, blocks, family_widths = family(depth)
        widths = checked_widths(f"depth {depth}", widths, family_widths)
        super().__init__(
            name=f"resnet{depth}",
            block=block,
            blocks=blocks,
            widths=widths,
            expansion=block.expansion,
            stem_width=widths[0],
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
            dropout=dropout,
        )


def family(depth: int) -> tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...], tuple[int, ...]]:
    """Return the block class, the number of blocks of each stage and the width of each stage for a depth.

    Raises:
        UserError: No family has this depth.
    """
    if depth in _IMAGENET_BLOCKS:
        return Bottleneck if depth >= 50 else BasicBlock, _IMAGENET_BLOCKS[depth], _IMAGENET_WIDTHS
    if depth >= 8 and depth % 6 == 2:
        return BasicBlock, ((depth - 2) // 6,) * 3, _CIFAR_WIDTHS
    raise UserError(
        f"resnet has no depth {depth}; choose 8, 14, 20, 32, 44, 56, 110 or another 6n+2 (three stages), "
        f"or 18, 34, 50, 101, 152 (four stages) (model.depth)"
    )
