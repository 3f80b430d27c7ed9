"""A stack of ConvNeXt blocks: a wide depthwise convolution, then two 1x1 ones with four times the channels between.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv 2201.03545. The linear layers of the authors' blocks are
1x1 convolutions here, which are the same, so that a swap of convolutions reaches them.
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
        """See the class."""
        last = x.permute(0, 2, 3, 1)
        return functional.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor for each channel of `(N, C, H, W)`, of 1e-6 at the start; the authors spare it weight decay.

    A vector, as those of norms, which the optimizer spares.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x * self.weight[:, None, None]


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, norm, 1x1 to four times the channels, GELU, 1x1 back, scaled by channel, added: `(N, C, H, W)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels, eps=1e-6)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.reduce = nn.Conv2d(4 * channels, channels, 1)
        self.scale = LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.reduce(functional.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + self.scale(y)


class ConvNeXt(nn.Module):
    """Stages of ConvNeXt blocks with halvings between; `(N, in_channels, H, W)` to `(N, num_classes)`.

    Without the stochastic depth of the paper's training. Weights start from a normal draw of deviation 0.02, cut off at
    two deviations, as published.

    Args:
        blocks: of each stage; [3, 3, 9, 3] is ConvNeXt-T.
        stem: `4x4` (patches of 4x4 pixels, as published), `2x2`, or `3x3` (stride 1, for images of about 32 pixels).
        num_classes: logits.
        in_channels: 1 for grey, 3 for RGB.
        widths: channels of each stage; None takes the published 96, 192, 384, 768 (as many as there are stages).

    Raises:
        UserError: for a wrong number of blocks or widths, or a stem that does not exist.
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
        """Logits `(N, num_classes)` of images `(N, in_channels, H, W)`."""
        return self.fc(self.norm(self.features(x).mean((2, 3))))
