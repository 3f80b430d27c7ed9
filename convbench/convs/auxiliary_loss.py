"""The auxiliary losses of convolutions that ask a training loop to add something to its loss."""

from collections.abc import Callable

from torch import Tensor, nn


def auxiliary_loss_methods(network: nn.Module) -> list[Callable[[], Tensor | None]]:
    """Return the methods `auxiliary_loss` of all modules of a network.

    Each method returns a 0-d tensor, or None if the arguments of the module switch the loss off.
    """
    methods = [getattr(module, "auxiliary_loss", None) for module in network.modules()]
    return [method for method in methods if method is not None]
