"""Residual networks whose blocks begin with batch norm and ReLU: pre-activation ResNets and Wide ResNets.

Sources: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027; Zagoruyko and Komodakis,
"Wide Residual Networks", BMVC 2016, arXiv 1605.07146. If a block changes the shape, its shortcut is a 1x1 convolution
of the output of its first norm and ReLU. All other shortcuts are the identity.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from convbench.errors import UserError
from convbench.models.arguments import check_dropout, checked_widths
from convbench.models.residual import ResidualNetwork
from convbench.models.resnet import BasicBlock, family


class PreActBlock(nn.Module):
    """A residual block of twice batch norm, ReLU and a 3x3 convolution.

    Input `(N, C_in, H, W)`, output `(N, width, H/stride, W/stride)`.

    Args:
        in_channels: Number of input channels C_in.
        width: Number of output channels.
        stride: Stride of the first convolution and of the shortcut.
        dropout: Dropout probability before the second convolution.
    """

    def __init__(self, in_channels: int, width: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or in_channels != width
        self.downsample = nn.Conv2d(in_channels, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        activated = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(activated)
        return self.conv2(self.dropout(self.relu(self.bn2(self.conv1(activated))))) + shortcut


class PreActResNet(ResidualNetwork):
    """A pre-activation ResNet for images `(N, in_channels, H, W)`; returns logits `(N, num_classes)`.

    Args:
        depth: Number of layers: 8, 14, 20, 32, 44, 56, 110 or another 6n+2 (three stages), or 18, 34 (four stages).
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        stem: `3x3`, `3x3_bias` or `7x7` (stride 2, then max pooling with stride 2), all without norm.
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
        if block is not BasicBlock:
            raise UserError(
                f"preact_resnet has no depth {depth}; choose 8, 14, 20, 32, 44, 56, 110 or another 6n+2, or 18, 34 "
                "(model.depth)"
            )
        chosen = checked_widths(f"depth {depth}", widths, family_widths)
        super().__init__(
            name=f"preact_resnet{depth}",
            block=PreActBlock,
            blocks=blocks,
            widths=chosen,
            expansion=1,
            stem_width=chosen[0],
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
            dropout=dropout,
            norm_last=True,
        )


class WideResNet(ResidualNetwork):
    """A Wide ResNet WRN-depth-factor for images `(N, in_channels, H, W)`; returns logits `(N, num_classes)`.

    Args:
        depth: Number of layers, 6n+4: 10, 16, 22, 28, 40 ...
        factor: Widening factor of the 16, 32 and 64 channels of the stages.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        stem: `3x3`, `3x3_bias` or `7x7` (stride 2, then max pooling with stride 2), with 16 channels and without norm.
        widths: Number of channels of each stage. None uses `factor`.
        dropout: Dropout probability between the two convolutions of every block (0.3 or 0.4 in the paper).

    Raises:
        UserError: The depth, the factor or the stem does not exist, the number of widths is wrong, or the dropout is
            out of range.
    """

    def __init__(
        self,
        depth: int,
        factor: int,
        num_classes: int,
        in_channels: int = 3,
        stem: str = "3x3",
        widths: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        if depth < 10 or depth % 6 != 4:
            raise UserError(
                f"wide_resnet has no depth {depth}; choose 10, 16, 22, 28, 40 or another 6n+4 (model.depth)"
            )
        if factor < 1:
            raise UserError(f"wide_resnet got factor {factor}; choose a whole number of at least 1 (model.factor)")
        check_dropout(dropout)
        super().__init__(
            name=f"wide_resnet{depth}_{factor}",
            block=partial(PreActBlock, dropout=dropout),
            blocks=((depth - 4) // 6,) * 3,
            widths=checked_widths("wide_resnet", widths, (16 * factor, 32 * factor, 64 * factor)),
            expansion=1,
            stem_width=16,
            num_classes=num_classes,
            in_channels=in_channels,
            stem=stem,
            dropout=0.0,
            norm_last=True,
        )
