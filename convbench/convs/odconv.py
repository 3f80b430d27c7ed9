"""The omni-dimensional dynamic convolution: attention over experts, kernel taps, input channels and output channels."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbench.convs.mixing import MixedConv2d
from convbench.errors import UserError


class ODConv2d(MixedConv2d):
    """A convolution whose kernel is mixed from experts and scaled along all four dimensions, for each image.

        W(x)[o, i, t] = filter_o(x) * channel_i(x) * tap_t(x) * sum_k alpha_k(x) W_k[o, i, t]

        alpha = softmax(a / temperature),   filter, channel, tap = sigmoid(a / temperature)

    where alpha_k is the routing weight of expert k, and each a is the output of a separate linear layer on
    h(x) = relu(S mean(x)), the average-pooled image reduced to max(least_hidden, int(C_in * reduction)) hidden units.
    The class applies the factors of the input channels to the image and those of the filters to the output, which gives
    the same result with fewer operations. Only the routing weights and the factors of the taps change the kernels.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w), `bias` (K, C_out), and those of `squeeze` and the four heads. The routing
    weights mix the biases; the other factors do not change them. Each expert is initialised as an `nn.Conv2d` of its
    shape. As published, a 1x1 kernel has no factor for its only tap, and a depthwise convolution has none for the
    filters, which are the input channels. A single expert has the routing weight 1. `temperature` is a buffer as in
    `dynamic`.

    Unlike the authors' code, the attention has no batch norm: with one, the kernel of an image would depend on the
    other images of the batch, and training with a batch of one image would be impossible. At initialisation each of
    the three sigmoids is about 1/2, so the outputs are about 8 times smaller than those of `dynamic`. A norm has to
    follow the layer. In a network without norms, `swap_convs` rescales the weights.

    Source: Li, Zhou and Yao, "Omni-Dimensional Dynamic Convolution", ICLR 2022, arXiv 2209.07947.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
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
        self._checked_int("least_hidden", least_hidden, key=" (conv.least_hidden)")
        hidden = max(least_hidden, int(self.in_channels * reduction))
        taps = self.kernel_size[0] * self.kernel_size[1]
        is_depthwise = self.groups == self.in_channels == self.out_channels
        self.squeeze = nn.Linear(self.in_channels, hidden, bias=False, **self._factory_kwargs)
        self.experts = None if num_experts == 1 else nn.Linear(hidden, num_experts, **self._factory_kwargs)
        self.channels = nn.Linear(hidden, self.in_channels, **self._factory_kwargs)
        self.filters = None if is_depthwise else nn.Linear(hidden, self.out_channels, **self._factory_kwargs)
        self.taps = None if taps == 1 else nn.Linear(hidden, taps, **self._factory_kwargs)
        buffer = torch.tensor(temperature, dtype=torch.float32, device=self._factory_kwargs["device"])
        self.register_buffer("temperature", buffer)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise each linear layer as `nn.Linear` does and each expert as `nn.Conv2d` does."""
        for part in (self.squeeze, self.experts, self.channels, self.filters, self.taps):
            if part is not None:
                part.reset_parameters()
        super().reset_parameters()

    def routing_weights(self, x: Tensor) -> Tensor:
        """Return the routing weights (N, K) of images (N, C_in, H, W), which sum to 1 over the experts."""
        return self._routing_weights_of_hidden(self._hidden(x))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W) into (N, C_out, H_out, W_out)."""
        hidden = self._hidden(x)
        routing_weights = self._routing_weights_of_hidden(hidden)
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

    def _routing_weights_of_hidden(self, hidden: Tensor) -> Tensor:
        if self.experts is None:
            return self._single_expert_weights(hidden)
        return F.softmax(self.experts(hidden) / self.temperature, dim=1)

    def _factor(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        return (head(hidden) / self.temperature).sigmoid()
