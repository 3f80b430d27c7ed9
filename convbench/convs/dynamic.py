"""The dynamic convolution: every image mixes its own kernel from a few experts."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.base import Conv2dBase, Size, initialise_like_conv2d, output_size
from convbench.errors import UserError

# Shapes below: N images, K experts, G groups, C_in and C_out channels, L output pixels. Every implementation takes
#   x (N, C_in, H, W), shares (N, K) that sum to 1 over K, weight (K, C_out, C_in/G, K_h, K_w), bias (K, C_out) or none,
# and gives (N, C_out, H_out, W_out). None of them views x: it may be channels_last.


def grouped(
    x: Tensor,
    shares: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Mix the kernels of each image, then convolve all images at once with one group for each: the published form."""
    images = x.shape[0]
    kernels = _mixed(shares, weight).flatten(0, 1)  # (N * C_out, C_in/G, K_h, K_w)
    biases = None if bias is None else (shares @ bias).flatten()
    row = x.reshape(1, -1, *x.shape[2:])
    y = F.conv2d(row, kernels, biases, stride, padding, dilation, images * groups)
    return y.reshape(images, -1, *y.shape[2:])


def mix_after(
    x: Tensor,
    shares: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Convolve every image with all the experts, then mix their outputs: K times the work, one plain convolution."""
    experts = weight.shape[0]
    # The convolution wants the outputs of a group together: (G, K, C_out/G), not (K, G, C_out/G).
    kernels = weight.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
    y = F.conv2d(x, kernels, None, stride, padding, dilation, groups)
    y = y.unflatten(1, (groups, experts, -1))
    y = torch.einsum("nk,ngkohw->ngohw", shares, y).flatten(1, 2)
    return y if bias is None else y + (shares @ bias)[:, :, None, None]


def scaled_inputs(
    x: Tensor,
    shares: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Scale a copy of the image for each expert, and convolve all K * C_in channels once, which also adds up."""
    scales = shares.to(x.dtype)[:, None, :, None, None, None]
    copies = x.unflatten(1, (groups, 1, -1)) * scales  # (N, G, K, C_in/G, H, W)
    kernels = weight.permute(1, 0, 2, 3, 4).flatten(1, 2)  # (C_out, K * C_in/G, K_h, K_w)
    y = F.conv2d(copies.flatten(1, 3), kernels, None, stride, padding, dilation, groups)
    return y if bias is None else y + (shares @ bias)[:, :, None, None]


def unfold(
    x: Tensor,
    shares: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Mix the kernels of each image, unfold its patches into columns, and multiply the two, batched over images."""
    images, kernel_size = x.shape[0], weight.shape[3:]
    columns = F.unfold(x, kernel_size, dilation, padding, stride)  # (N, C_in * K_h * K_w, L)
    kernels = _mixed(shares, weight).flatten(2).unflatten(1, (groups, -1)).flatten(0, 1)
    y = kernels @ columns.unflatten(1, (groups, -1)).flatten(0, 1)  # (N * G, C_out/G, L)
    size = output_size(x.shape[2:], kernel_size, stride, padding, dilation)
    y = y.reshape(images, -1, *size)
    return y if bias is None else y + (shares @ bias)[:, :, None, None]


def _mixed(shares: Tensor, weight: Tensor) -> Tensor:
    """Mix the experts' kernels for each image: (N, K) and (K, C_out, ...) give (N, C_out, ...)."""
    return (shares @ weight.flatten(1)).unflatten(1, weight.shape[1:])


class Attention(nn.Module):
    """Say how well each expert suits an image: average pool, linear, ReLU, linear.

    Input (N, C_in, H, W), output the logits (N, K). The two layers are linear ones, which equal 1x1 convolutions of the
    pooled image, so no swap of convolutions takes them for convolutions of the network. The first has no bias. It has
    int(C_in * reduction) + 1 hidden units, and K for colour images (C_in = 3), as published.
    """

    def __init__(
        self,
        in_channels: int,
        num_experts: int,
        reduction: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = num_experts if in_channels == 3 else int(in_channels * reduction) + 1
        self.squeeze = nn.Linear(in_channels, hidden, bias=False, device=device, dtype=dtype)
        self.excite = nn.Linear(hidden, num_experts, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (N, K) of the images (N, C_in, H, W)."""
        return self.excite(F.relu(self.squeeze(x.mean((2, 3)))))


class DynamicConv2d(Conv2dBase):
    """A convolution whose kernel is mixed anew for every image, from `num_experts` kernels and biases.

        W(x) = sum_k share_k(x) W_k,   b(x) = sum_k share_k(x) b_k,   sum_k share_k = 1

        share(x) = softmax(attention(x) / temperature)

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w) and `bias` (K, C_out), each expert drawn as an `nn.Conv2d` of its shape would
    draw it, and those of `attention`.

    `temperature` is a 0-d buffer and no Python number: a schedule fills it in place (`conv.temperature.fill_(t)`)
    without a recompilation, and checkpoints keep it. A high one makes all experts learn, at 1 an image may choose; the
    published schedule falls from 30 to 1 over the first 10 epochs, so 1 is right wherever no schedule fills it.

    Sources: "Dynamic convolution for image classification" (S3); Chen et al., "Dynamic Convolution: Attention over
    Convolution Kernels", CVPR 2020, arXiv 1912.03458.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "dynamic"
    implementations: ClassVar[Mapping[str, Callable[..., Tensor]]] = {
        "grouped": grouped,
        "mix_after": mix_after,
        "scaled_inputs": scaled_inputs,
        "unfold": unfold,
    }
    counted_as: ClassVar[str] = "grouped"
    temperature: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str = "grouped",
        num_experts: int = 4,
        reduction: float = 0.25,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            implementation=implementation,
        )  # fmt: skip
        self.num_experts = self._whole("num_experts", num_experts, key=" (conv.num_experts)")
        for argument, value in (("reduction", reduction), ("temperature", temperature)):
            if not value > 0:
                raise UserError(f"dynamic got {argument} {value!r}; choose a number above 0 (conv.{argument})")
        self.attention = Attention(in_channels, num_experts, reduction, device, dtype)
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32, device=device))
        # Three axes, because Module.to(memory_format=torch.channels_last) refuses five.
        fan_in = in_channels // groups * self.kernel_size[0] * self.kernel_size[1]
        self.weight = nn.Parameter(torch.empty((num_experts, out_channels, fan_in), device=device, dtype=dtype))
        shape = (num_experts, out_channels)
        self.bias = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw anew: each expert as its `nn.Conv2d`, the attention as its `nn.Linear`; the temperature stays."""
        self.attention.squeeze.reset_parameters()
        self.attention.excite.reset_parameters()
        for expert in range(self.num_experts):
            initialise_like_conv2d(self.weight[expert], None if self.bias is None else self.bias[expert])

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        weight = self.weight.unflatten(2, (-1, *self.kernel_size))
        shares = F.softmax(self.attention(x) / self.temperature, dim=1)
        return self._function(self._pad(x), shares, weight, self.bias, *self._geometry)

    def extra_repr(self) -> str:
        """Describe the layer as `nn.Conv2d` does, and add the experts."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"
