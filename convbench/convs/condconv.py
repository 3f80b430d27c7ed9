"""The conditionally parameterised convolution: a kernel for each image, mixed from experts with sigmoid routing."""

from typing import Any, ClassVar

from torch import Tensor, nn

from convbench.convs.mixing import MixedConv2d


class CondConv2d(MixedConv2d):
    """A convolution that mixes a kernel for each image from `num_experts` experts, with sigmoid routing weights.

        W(x) = sum_k alpha_k(x) W_k,   b(x) = sum_k alpha_k(x) b_k,   alpha(x) = sigmoid(R mean(x) + r)

    One linear layer on the average-pooled image gives the routing weight alpha_k of each expert. Each routing weight is
    independent of the others, and they need not sum to 1: unlike in `dynamic`, an image may use all experts or none,
    and there is no temperature. K experts have K times the weights of one kernel, but hardly more multiplications,
    because the class mixes kernels and not outputs.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w), `bias` (K, C_out), `routing.weight` (K, C_in) and `routing.bias` (K,). Each
    expert is initialised as an `nn.Conv2d` of its shape.

    Source: Yang, Bender, Le and Ngiam, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
    NeurIPS 2019, arXiv 1904.04971, which has 4 to 32 experts.

    Raises:
        UserError: An argument is out of range or incompatible with another argument.
    """

    name: ClassVar[str] = "condconv"

    def __init__(self, *conv2d: Any, implementation: str = "grouped", num_experts: int = 4, **geometry: Any) -> None:
        super().__init__(*conv2d, num_experts=num_experts, implementation=implementation, **geometry)
        self.routing = nn.Linear(self.in_channels, num_experts, **self._factory_kwargs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the routing layer as `nn.Linear` does and each expert as `nn.Conv2d` does."""
        self.routing.reset_parameters()
        super().reset_parameters()

    def routing_weights(self, x: Tensor) -> Tensor:
        """Return the routing weights (N, K) of images (N, C_in, H, W), each between 0 and 1."""
        return self.routing(x.mean((2, 3))).sigmoid()
