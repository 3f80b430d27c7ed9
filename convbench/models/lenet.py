"""LeNet-5 as the CNN lecture has it: sigmoids and average pools.

Source: the CNN lecture notebook (S2), after LeCun et al., "Gradient-Based Learning Applied to Document Recognition",
1998.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from convbench.models.arguments import check_image_size, checked_widths

_LEAST = 12  # pixels, of which one is left for the linear layers


class LeNet(nn.Module):
    """Two 5x5 convolutions with sigmoid and average pool, three linear layers; `(N, C, H, W)` to `(N, num_classes)`.

    Weights start by Xavier and Glorot's uniform draw, as in the lecture: with PyTorch's own the sigmoids keep the
    network from learning.

    Args:
        image_size: H = W, in pixels; 28 in the lecture.
        num_classes: logits.
        in_channels: 1 for grey, 3 for RGB.
        widths: channels of the two convolutions; None takes 6 and 16.

    Raises:
        UserError: for another number of widths, or too small an image.
    """

    def __init__(
        self, image_size: int, num_classes: int, in_channels: int = 1, widths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.name = "lenet"
        self.widths = first, second = checked_widths(self.name, widths, (6, 16))
        self.min_image_size = _LEAST
        check_image_size(self.name, image_size, _LEAST)
        left = (image_size // 2 - 4) // 2
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
            nn.Linear(second * left * left, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of images `(N, in_channels, image_size, image_size)`."""
        return self.classifier(self.features(x))
