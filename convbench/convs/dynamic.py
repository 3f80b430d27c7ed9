"""The dynamic convolution: every image mixes its own kernel from a few experts, by attention."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.mixing import MixedConv2d
from convbench.errors import UserError


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


class DynamicConv2d(MixedConv2d):
    """A convolution whose kernel is mixed anew for every image, from `num_experts` kernels and biases.

        W(x) = sum_k share_k(x) W_k,   b(x) = sum_k share_k(x) b_k,   sum_k share_k = 1

        share(x) = softmax(attention(x) / temperature)

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w) and `bias` (K, C_out), each expert drawn as an `nn.Conv2d` of its shape would
    draw it, and those of `attention`, which a single expert, whose share is 1, does without.

    `temperature` is a 0-d buffer and no Python number: a schedule fills it in place (`conv.temperature.fill_(t)`)
    without a recompilation, and checkpoints keep it. A high one makes all experts learn, at 1 an image may choose; the
    published schedule falls from 30 to 1 over the first 10 epochs, so 1 is right wherever no schedule fills it.

    Sources: "Dynamic convolution for image classification" (S3); Chen et al., "Dynamic Convolution: Attention over
    Convolution Kernels", CVPR 2020, arXiv 1912.03458.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "dynamic"
    temperature: Tensor

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "grouped",
        num_experts: int = 4,
        reduction: float = 0.25,
        temperature: float = 1.0,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, num_experts=num_experts, implementation=implementation, **geometry)
        for argument, value in (("reduction", reduction), ("temperature", temperature)):
            if not value > 0:
                raise UserError(f"dynamic got {argument} {value!r}; choose a number above 0 (conv.{argument})")
        is_mixed = num_experts > 1
        self.attention = Attention(self.in_channels, num_experts, reduction, **self._place) if is_mixed else None
        buffer = torch.tensor(temperature, dtype=torch.float32, device=self._place["device"])
        self.register_buffer("temperature", buffer)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw anew: the attention as its `nn.Linear`, each expert as its `nn.Conv2d`; the temperature stays."""
        if self.attention is not None:
            self.attention.squeeze.reset_parameters()
            self.attention.excite.reset_parameters()
        super().reset_parameters()

    def routing_weights(self, x: Tensor) -> Tensor:
        """Say how much each image (N, C_in, H, W) takes of each expert: (N, K), which sum to 1."""
        if self.attention is None:
            return self._share_of_one(x)
        return F.softmax(self.attention(x) / self.temperature, dim=1)
