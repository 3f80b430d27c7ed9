"""The small MNIST network of the write-up on convolutions from scratch.

Source: "Unboxing the blackbox: convolutions" (S4).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from convbench.models.arguments import check_dropout, check_image_size, checked_widths
from convbench.models.initialisation import initialise_for_relu

_MIN_IMAGE_SIZE = 16  # in pixels; leaves one pixel for the linear layers


class MnistNet(nn.Module):
    """A network for images `(N, in_channels, image_size, image_size)`; returns logits `(N, num_classes)`.

    It has four 3x3 convolutions without padding, two max-pooling layers and two linear layers. The network of the
    write-up ends with a log-softmax, which is part of the loss here. Weights have the normal initialisation of He et
    al. With the default initialisation of PyTorch, the network learns for some seeds only.

    Args:
        image_size: Height and width of the images in pixels; 28 in the write-up, which gives the linear layers 96
            inputs.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        widths: Number of channels of the four convolutions. None uses 3, 3, 6, 6.
        dropout: Dropout probability before each linear layer.

    Raises:
        UserError: The number of widths is not 4, the dropout is out of range, or the images are too small.
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
        self.min_image_size = _MIN_IMAGE_SIZE
        check_image_size(self.name, image_size, _MIN_IMAGE_SIZE)
        feature_size = ((image_size - 4) // 2 - 4) // 2
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
            nn.Linear(four * feature_size * feature_size, 30),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(30, num_classes),
        )
        initialise_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(N, num_classes)` of images `(N, in_channels, image_size, image_size)`."""
        return self.classifier(self.features(x))
