"""ResNeXt: residual networks of bottleneck blocks with grouped 3x3 convolutions.

Source: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, arXiv 1611.05431. The
paper calls the number of groups cardinality.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from convbench.errors import UserError
from convbench.models.arguments import checked_widths
from convbench.models.residual import ResidualNetwork, projection

_CIFAR_WIDTHS = (256, 512, 1024)
_IMAGENET_WIDTHS = (256, 512, 1024, 2048)
_IMAGENET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNeXtBlock(nn.Module):
    """A residual block of a 1x1, a grouped 3x3 and a 1x1 convolution.

    Input `(N, C_in, H, W)`, output `(N, width, H/stride, W/stride)`.

    Args:
        in_channels: Number of input channels C_in.
        width: Number of output channels.
        stride: Stride of the 3x3 convolution and of the shortcut.
        groups: Number of groups of the 3x3 convolution.
        bottleneck: Number of channels of the 3x3 convolution as a multiple of the width.

    Raises:
        UserError: The groups do not divide the channels of the 3x3 convolution.
    """

    def __init__(self, in_channels: int, width: int, stride: int, groups: int, bottleneck: float) -> None:
        super().__init__()
        inner = round(width * bottleneck)
        if inner < 1 or inner % groups:
            raise UserError(
                f"the 3x3 convolution of a ResNeXt block of width {width} has {inner} channels, which cannot be split "
                f"into {groups} groups; choose other values (model.widths, model.bottleneck or model.groups)"
            )
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNeXt(ResidualNetwork):
    """A ResNeXt for images `(N, in_channels, H, W)`; returns logits `(N, num_classes)`.

    Args:
        depth: Number of layers: 20, 29, 38 or another 9n+2 (three stages, for small images), or 50, 101 (four stages).
        groups: Number of groups of every 3x3 convolution, the cardinality.
        bottleneck: Number of channels of the 3x3 convolutions as a multiple of the width of the stage: 2 for the
            published 29-layer network with 8 groups of 64 channels, 0.5 for the published 50-layer network with 32
            groups of 4 channels.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        stem: `3x3`, `3x3_bias` or `7x7` (stride 2, then max pooling with stride 2), with a quarter of the first width.
        widths: Number of output channels of each stage. None uses the published 256, 512, 1024 (and 2048).
        dropout: Dropout probability before the last layer.

    Raises:
        UserError: The depth or the stem does not exist, the number of widths is wrong, the dropout is out of range, or
            the groups do not divide the channels.
    """

    def __init__(
        self,
        depth: int,
        groups: int,
        bottleneck: float,
        num_classes: int,
        in_channels: int = 3,
        stem: str = "3x3",
        widths: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        if depth not in _IMAGENET_BLOCKS and (depth < 11 or depth % 9 != 2):
            raise UserError(
                f"resnext has no depth {depth}; choose 20, 29, 38 or another 9n+2 (three stages), or 50, 101 "
                "(four stages) (model.depth)"
            )
        if groups < 1:
            raise UserError(f"resnext got groups {groups}; choose a whole number of at least 1 (model.groups)")
        family_widths = _IMAGENET_WIDTHS if depth in _IMAGENET_BLOCKS else _CIFAR_WIDTHS
        chosen = checked_widths(f"depth {depth}", widths, family_widths)
        super().__init__(
            name=f"resnext{depth}_{groups}g",
            block=partial(ResNeXtBlock, groups=groups, bottleneck=bottleneck),
            blocks=_IMAGENET_BLOCKS.get(depth, ((depth - 2) // 9,) * 3),
            widths=chosen,
            expansion=1,
            stem_width=max(1, chosen[0] // 4),
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
            dropout=dropout,
        )
