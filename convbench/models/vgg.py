"""VGG networks: blocks of 3x3 convolutions, max pooling after each block, and three linear layers.

Sources: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, arXiv
1409.1556; the CNN lecture notebook (S2).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from convbench.errors import UserError
from convbench.models.arguments import check_dropout, check_image_size, checked_widths
from convbench.models.initialisation import initialise_for_relu

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """A VGG network for images `(N, in_channels, image_size, image_size)`; returns logits `(N, num_classes)`.

    Weights have the normal initialisation of He et al. With the default initialisation of PyTorch, or the published
    standard deviation of 0.01, the activations of a network without norms vanish, and it does not learn. The authors
    initialised the deeper networks from a trained shallow one.

    Args:
        blocks: Number of convolutions of each block: [1, 1, 2, 2, 2] is VGG-11, [2, 2, 3, 3, 3] is VGG-16.
        hidden: Number of units of the two hidden linear layers; 4096 as published.
        norm: Whether a batch norm follows each convolution, which then has no bias.
        image_size: Height and width of the images in pixels.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        widths: Number of channels of each block. None uses the first of the published 64, 128, 256, 512, 512, one for
            each block.
        dropout: Dropout probability after each hidden linear layer.

    Raises:
        UserError: The number of blocks or widths is wrong, the dropout is out of range, or the images are too small.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        hidden: int,
        norm: bool,
        image_size: int,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not 1 <= len(blocks) <= len(_WIDTHS) or any(count < 1 for count in blocks):
            raise UserError(
                f"vgg got blocks {list(blocks)}; choose one to {len(_WIDTHS)} numbers of at least 1 (model.blocks)"
            )
        if hidden < 1:
            raise UserError(f"vgg got hidden {hidden}; choose a whole number of at least 1 (model.hidden)")
        check_dropout(dropout)
        self.name = f"vgg{sum(blocks) + 3}"
        self.widths = checked_widths(f"{len(blocks)} blocks", widths, _WIDTHS[: len(blocks)])
        self.min_image_size = 2 ** len(blocks)
        check_image_size(self.name, image_size, self.min_image_size)
        channels, stages = in_channels, []
        for count, width in zip(blocks, self.widths, strict=True):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
                layers += [nn.BatchNorm2d(width)] * norm + [nn.ReLU(inplace=True)]
                channels = width
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.features = nn.Sequential(*stages)
        feature_size = image_size // 2 ** len(blocks)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * feature_size * feature_size, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        initialise_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(N, num_classes)` of images `(N, in_channels, image_size, image_size)`."""
        return self.classifier(self.features(x))
