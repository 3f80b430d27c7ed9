"""VGG networks: blocks of 3x3 convolutions, each with a max pool, and three linear layers.

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
    """Blocks of 3x3 convolutions, then linear layers; `(N, C, H, W)` to `(N, num_classes)`.

    Weights start as He et al. have it, with a normal draw: with PyTorch's own draws, or the published deviation of
    0.01, a network without norms hands on next to nothing, and does not learn. (The authors started the deeper ones
    from a trained shallow one.)

    Args:
        blocks: convolutions of each block: [1, 1, 2, 2, 2] is VGG-11, [2, 2, 3, 3, 3] VGG-16.
        hidden: units of the two hidden linear layers; 4096 as published.
        norm: batch norm behind each convolution, which then has no bias.
        image_size: H = W, in pixels.
        num_classes: logits.
        in_channels: 1 for grey, 3 for RGB.
        widths: channels of each block; None takes the published 64, 128, 256, 512, 512 (as many as there are blocks).
        dropout: probability, behind each hidden linear layer.

    Raises:
        UserError: for a wrong number of blocks or widths, a dropout out of range, or too small an image.
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
        left = image_size // 2 ** len(blocks)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * left * left, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        initialise_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of images `(N, in_channels, image_size, image_size)`."""
        return self.classifier(self.features(x))
