"""The conditionally parameterised convolution: every image mixes its own kernel, each expert weighed on its own."""

from typing import Any, ClassVar

from torch import Tensor, nn

from convbench.convs.mixing import MixedConv2d


class CondConv2d(MixedConv2d):
    """A convolution whose kernel is mixed anew for every image, by sigmoid routing.

        W(x) = sum_k share_k(x) W_k,   b(x) = sum_k share_k(x) b_k,   share(x) = sigmoid(R mean(x) + r)

    One linear layer on the average-pooled image gives the weight of each expert for the image. The weights do not
    compete and need not sum to 1: unlike in `dynamic`, an image may take all experts or none, and there is no
    temperature. K experts cost K times the weights and hardly more multiplications than one kernel, because kernels are
    mixed, not outputs.

    Input (N, C_in, H, W), output (N, C_out, H_out, W_out). Parameters, the same for every implementation: `weight`
    (K, C_out, C_in/groups * K_h * K_w) and `bias` (K, C_out), each expert drawn as an `nn.Conv2d` of its shape would
    draw it, and `routing.weight` (K, C_in) and `routing.bias` (K,).

    Source: Yang, Bender, Le and Ngiam, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
    NeurIPS 2019, arXiv 1904.04971, which has 4 to 32 experts.

    Raises:
        UserError: An argument is out of range, or does not go together with another one.
    """

    name: ClassVar[str] = "condconv"

    def __init__(self, *conv2d: Any, implementation: str = "grouped", num_experts: int = 4, **geometry: Any) -> None:
        super().__init__(*conv2d, num_experts=num_experts, implementation=implementation, **geometry)
        self.routing = nn.Linear(self.in_channels, num_experts, **self._place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw anew: the routing as its `nn.Linear`, each expert as its `nn.Conv2d`."""
        self.routing.reset_parameters()
        super().reset_parameters()

    def routing_weights(self, x: Tensor) -> Tensor:
        """Say how much each image (N, C_in, H, W) takes of each expert: (N, K), each between 0 and 1."""
        return self.routing(x.mean((2, 3))).sigmoid()
