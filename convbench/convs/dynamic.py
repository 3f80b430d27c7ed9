"""The dynamic convolution: a kernel for each image, mixed from experts with attention."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.mixing import MixedConv2d
from convbench.errors import UserError


class Attention(nn.Module):
    """The attention over the experts: average pooling, linear layer, ReLU, linear layer.

    Input (N, C_in, H, W), output the logits of the routing weights (N, K). The linear layers are equivalent to 1x1
    convolutions of the pooled image, but the swap of convolutions does not replace them. The first layer has no bias.
    There are int(C_in * reduction) + 1 hidden units, and K for colour images (C_in = 3), as published.
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
        """Return the logits (N, K) of images (N, C_in, H, W)."""
        return self.excite(F.relu(self.squeeze(x.mean((2, 3)))))


class DynamicConv2d(MixedConv2d):
    """A convolution that mixes a kernel for each image from `num_experts` experts, with softmax attention.

        W(x) = sum_k alpha_k(x) W_k,   b(x) = sum_k alpha_k(x) b_k,   sum_k alpha_k = 1

        alpha(x) = softmax(attention(x) / temperature)

    where alpha_k is the routing weight of expert k.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w), `bias` (K, C_out) and those of `attention`. Each expert is initialised as an
    `nn.Conv2d` of its shape. A single expert has the routing weight 1 and no attention.

    `temperature` is a 0-d buffer and not a Python number, so that a schedule can change it in place
    (`conv.temperature.fill_(t)`) without a recompilation, and checkpoints contain it. A large temperature makes the
    routing weights nearly equal, so that all experts learn; at 1 the routing weights can differ strongly. The published
    schedule decreases from 30 to 1 over the first 10 epochs, so 1 is the right value without a schedule.

    Sources: "Dynamic convolution for image classification" (S3); Chen et al., "Dynamic Convolution: Attention over
    Convolution Kernels", CVPR 2020, arXiv 1912.03458.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
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
        self.attention = (
            Attention(self.in_channels, num_experts, reduction, **self._factory_kwargs) if num_experts > 1 else None
        )
        buffer = torch.tensor(temperature, dtype=torch.float32, device=self._factory_kwargs["device"])
        self.register_buffer("temperature", buffer)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the attention as `nn.Linear` does and each expert as `nn.Conv2d` does; keep the temperature."""
        if self.attention is not None:
            self.attention.squeeze.reset_parameters()
            self.attention.excite.reset_parameters()
        super().reset_parameters()

    def routing_weights(self, x: Tensor) -> Tensor:
        """Return the routing weights (N, K) of images (N, C_in, H, W), which sum to 1 over the experts."""
        if self.attention is None:
            return self._single_expert_weights(x)
        return F.softmax(self.attention(x) / self.temperature, dim=1)
