"""The softmax temperature of convolutions with a kernel for each image."""

from torch import Tensor, nn


def temperature_buffers(network: nn.Module) -> list[Tensor]:
    """Return the 0-d buffers named `temperature` of all modules of a network."""
    return [buffer for name, buffer in network.named_buffers() if name.rpartition(".")[2] == "temperature"]
