"""How the weights start in networks in which nothing but the weights keeps the size of what is handed on."""

from torch import nn

_OF_LOGITS = 0.01  # deviation of the weights of the last layer


def initialise_for_relu(network: nn.Module) -> None:
    """Draw convolutions and linear layers so that each, with the ReLU behind it, keeps the size of the signal.

    Weights are normal with a variance of 2 over the numbers that an output is a sum of; biases are zero. PyTorch's own
    draws have a sixth of that variance, so that a network of ten layers without norms hands on next to nothing, and
    does not learn. The last linear layer, which gives the logits and has no ReLU behind it, starts with a deviation of
    0.01, as in the VGG paper: max pools make the signal larger, and large wrong logits make the first steps too long.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv 1502.01852.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if isinstance(layers[-1], nn.Linear):
        nn.init.normal_(layers[-1].weight, std=_OF_LOGITS)
