"""The omni-dimensional dynamic convolution: attention over experts, kernel taps, input and output channels."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.mixing import MixedConv2d
from convbench.errors import UserError


class ODConv2d(MixedConv2d):
    """A convolution whose kernel every image mixes and scales along all four of its dimensions.

        W(x)[o, i, t] = filter_o(x) * channel_i(x) * tap_t(x) * sum_k share_k(x) W_k[o, i, t]

        share = softmax(a / temperature),   filter, channel, tap = sigmoid(a / temperature)

    where each a is a linear layer of its own on h(x) = relu(S mean(x)), the average-pooled image brought down to
    max(least_hidden, int(C_in * reduction)) units. The channels' factor is applied to the image and the filters' to the
    output, which is the same for less work; only the experts and the taps are mixed into kernels.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w) and `bias` (K, C_out), which the routing weights mix and no other factor
    changes, each expert drawn as an `nn.Conv2d` of its shape would draw it; and those of `squeeze` and the four heads.
    As published, a 1x1 kernel has no factor for its only tap, a depthwise one none for its filters, which are the
    channels, and a single expert none for its share, which is 1. `temperature` is a buffer as in `dynamic`.

    Unlike the authors' code there is no batch norm in the attention: with it, an image's kernel would depend on the
    other images of its batch, and a batch of one could not be trained on. At the start the three sigmoids give
    about 1/2 each, so outputs are some 8 times smaller than those of `dynamic`: a norm has to follow, and where a
    network has none, a swap makes up for it.

    Source: Li, Zhou and Yao, "Omni-Dimensional Dynamic Convolution", ICLR 2022, arXiv 2209.07947.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "odconv"
    temperature: Tensor

    def __init__(
        self,
        *conv2d: Any,
        implementation: str = "grouped",
        num_experts: int = 4,
        reduction: float = 0.0625,
        least_hidden: int = 16,
        temperature: float = 1.0,
        **geometry: Any,
    ) -> None:
        super().__init__(*conv2d, num_experts=num_experts, implementation=implementation, **geometry)
        for argument, value in (("reduction", reduction), ("temperature", temperature)):
            if not value > 0:
                raise UserError(f"odconv got {argument} {value!r}; choose a number above 0 (conv.{argument})")
        self._whole("least_hidden", least_hidden, key=" (conv.least_hidden)")
        hidden = max(least_hidden, int(self.in_channels * reduction))
        taps = self.kernel_size[0] * self.kernel_size[1]
        is_depthwise = self.groups == self.in_channels == self.out_channels
        self.squeeze = nn.Linear(self.in_channels, hidden, bias=False, **self._place)
        self.experts = None if num_experts == 1 else nn.Linear(hidden, num_experts, **self._place)
        self.channels = nn.Linear(hidden, self.in_channels, **self._place)
        self.filters = None if is_depthwise else nn.Linear(hidden, self.out_channels, **self._place)
        self.taps = None if taps == 1 else nn.Linear(hidden, taps, **self._place)
        buffer = torch.tensor(temperature, dtype=torch.float32, device=self._place["device"])
        self.register_buffer("temperature", buffer)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw anew: each part of the attention as its `nn.Linear`, each expert as its `nn.Conv2d`."""
        for part in (self.squeeze, self.experts, self.channels, self.filters, self.taps):
            if part is not None:
                part.reset_parameters()
        super().reset_parameters()

    def routing_weights(self, x: Tensor) -> Tensor:
        """Say how much each image (N, C_in, H, W) takes of each expert: (N, K), which sum to 1."""
        return self._expert_weights(self._hidden(x))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        hidden = self._hidden(x)
        routing_weights = self._expert_weights(hidden)
        bias = None if self.bias is None else routing_weights @ self.bias
        if self.taps is not None:
            routing_weights = routing_weights[:, :, None] * self._factor(self.taps, hidden)[:, None, :]
        x = x * self._factor(self.channels, hidden).to(x.dtype)[:, :, None, None]
        y = self._function(self._pad(x), routing_weights, self._kernels(), None, self._geometry)
        if self.filters is not None:
            y = y * self._factor(self.filters, hidden).to(y.dtype)[:, :, None, None]
        return y if bias is None else y + bias[:, :, None, None]

    def _hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.squeeze(x.mean((2, 3))))

    def _expert_weights(self, hidden: Tensor) -> Tensor:
        if self.experts is None:
            return self._share_of_one(hidden)
        return F.softmax(self.experts(hidden) / self.temperature, dim=1)

    def _factor(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        return (head(hidden) / self.temperature).sigmoid()
