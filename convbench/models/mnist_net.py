"""The small MNIST network on which from-scratch convolutions were first trained.

Source: "Unboxing the blackbox: convolutions" (S4).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from convbench.models.arguments import check_dropout, check_image_size, checked_widths
from convbench.models.initialisation import initialise_for_relu

_LEAST = 16  # pixels, of which one is left for the linear layers


class MnistNet(nn.Module):
    """Four 3x3 convolutions without padding, two max pools, two linear layers; `(N, C, H, W)` to `(N, num_classes)`.

    The write-up ends in a log-softmax; here it is part of the loss. Weights start as He et al. have it, with a normal
    draw: with PyTorch's own draws it depends on the seed whether the network learns.

    Args:
        image_size: H = W, in pixels; 28 in the write-up, which leaves 96 numbers for the linear layers.
        num_classes: logits.
        in_channels: 1 for grey, 3 for RGB.
        widths: channels of the four convolutions; None takes 3, 3, 6, 6.
        dropout: probability, before each linear layer.

    Raises:
        UserError: for another number of widths, a dropout out of range, or too small an image.
    """

    def __init__(
        self,
        image_size: int,
        num_classes: int,
        in_channels: int = 1,
        widths: Sequence[int] | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        self.name = "mnist_net"
        self.widths = one, two, three, four = checked_widths(self.name, widths, (3, 3, 6, 6))
        self.min_image_size = _LEAST
        check_image_size(self.name, image_size, _LEAST)
        left = ((image_size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, one, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(one, two, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(two, three, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(three, four, 3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(four * left * left, 30),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(30, num_classes),
        )
        initialise_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of images `(N, in_channels, image_size, image_size)`."""
        return self.classifier(self.features(x))
