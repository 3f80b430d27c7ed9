"""ConvNeXt: blocks of a depthwise 7x7 convolution and an inverted bottleneck of two 1x1 convolutions.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv 2201.03545. The authors' blocks have linear layers
instead of the equivalent 1x1 convolutions. This implementation uses convolutions, so that a swap can replace them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from convbench.errors import UserError
from convbench.models.arguments import checked_widths

_WIDTHS = (96, 192, 384, 768)
_STEMS = ("3x3", "2x2", "4x4")


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of `(N, C, H, W)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        last = x.permute(0, 2, 3, 1)
        return functional.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor for each channel of `(N, C, H, W)`, initially 1e-6.

    The authors apply no weight decay to it. The optimizer of convbench applies none to any one-dimensional parameter.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        return x * self.weight[:, None, None]


class ConvNeXtBlock(nn.Module):
    """A residual block for `(N, C, H, W)`.

    Depthwise 7x7 convolution, layer norm, 1x1 convolution to 4C channels, GELU, 1x1 convolution to C channels, layer
    scale, and addition of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels, eps=1e-6)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.reduce = nn.Conv2d(4 * channels, channels, 1)
        self.scale = LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; see the class for its shape."""
        y = self.reduce(functional.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + self.scale(y)


class ConvNeXt(nn.Module):
    """A ConvNeXt for images `(N, in_channels, H, W)`; returns logits `(N, num_classes)`.

    A layer norm and a 2x2 convolution with stride 2 separate two stages. The stochastic depth of the paper's training
    is not implemented. Weights are initialised from a normal distribution with standard deviation 0.02, truncated at
    two standard deviations, as published.

    Args:
        blocks: Number of blocks in each stage; [3, 3, 9, 3] is ConvNeXt-T.
        stem: `4x4` (patches of 4x4 pixels, as published), `2x2`, or `3x3` (stride 1, for images of about 32 pixels).
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.
        widths: Number of channels of each stage. None uses the first of the published 96, 192, 384, 768, one for each
            stage.

    Raises:
        UserError: The number of blocks or widths is wrong, or the stem does not exist.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        stem: str,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= len(blocks) <= len(_WIDTHS) or any(count < 1 for count in blocks):
            raise UserError(
                f"convnext got blocks {list(blocks)}; choose one to {len(_WIDTHS)} numbers of at least 1 (model.blocks)"
            )
        if stem not in _STEMS:
            raise UserError(f"convnext has no stem {stem!r}; choose {', '.join(_STEMS)} (model.stem)")
        self.name = f"convnext{'_'.join(map(str, blocks))}"
        self.widths = checked_widths(f"{len(blocks)} stages", widths, _WIDTHS[: len(blocks)])
        patch = 1 if stem == "3x3" else int(stem[0])
        self.min_image_size = patch * 2 ** (len(blocks) - 1)
        first = self.widths[0]
        entry = (
            nn.Conv2d(in_channels, first, 3, padding=1) if patch == 1 else nn.Conv2d(in_channels, first, patch, patch)
        )
        layers: list[nn.Module] = [nn.Sequential(entry, ChannelNorm(first, eps=1e-6))]
        for index, (count, width) in enumerate(zip(blocks, self.widths, strict=True)):
            if index:
                before = self.widths[index - 1]
                layers.append(nn.Sequential(ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, 2)))
            layers.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(count))))
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(self.widths[-1], eps=1e-6)
        self.fc = nn.Linear(self.widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(N, num_classes)` of images `(N, in_channels, H, W)`."""
        return self.fc(self.norm(self.features(x).mean((2, 3))))
