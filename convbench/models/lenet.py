"""LeNet-5 with sigmoids and average pooling, as in the CNN lecture.

Source: the CNN lecture notebook (S2), after LeCun et al., "Gradient-Based Learning Applied to Document Recognition",
1998.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from convbench.models.arguments import check_image_size, checked_widths

_MIN_IMAGE_SIZE = 12  # in pixels; leaves one pixel for the linear layers


class LeNet(nn.Module):
    """A LeNet for images `(N, in_channels, image_size, image_size)`; returns logits `(N, num_classes)`.

    It has two 5x5 convolutions, each with a sigmoid and average pooling, and three linear layers. Weights have the
    uniform initialisation of Glorot and Bengio (Xavier), as in the lecture. With the default initialisation of PyTorch,
    a network with sigmoids does not learn.

    Args:
        image_size: Height and width of the images in pixels; 28 in the lecture.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        widths: Number of channels of the two convolutions. None uses 6 and 16.

    Raises:
        UserError: The number of widths is not 2, or the images are too small.
    """

    def __init__(
        self, image_size: int, num_classes: int, in_channels: int = 1, widths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.name = "lenet"
        self.widths = first, second = checked_widths(self.name, widths, (6, 16))
        self.min_image_size = _MIN_IMAGE_SIZE
        check_image_size(self.name, image_size, _MIN_IMAGE_SIZE)
        feature_size = (image_size // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, first, 5, padding=2),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.Sigmoid(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(second * feature_size * feature_size, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(N, num_classes)` of images `(N, in_channels, image_size, image_size)`."""
        return self.classifier(self.features(x))
