"""The initialisation of networks without normalisation layers."""

from torch import nn

_LAST_LAYER_STD = 0.01


def initialise_for_relu(network: nn.Module) -> None:
    """Initialise convolutions and linear layers so that each layer, followed by a ReLU, preserves the activation scale.

    Weights are drawn from a normal distribution with variance 2 / fan_in. Biases are zero. The default initialisation
    of PyTorch has a sixth of this variance: in a network of ten layers without norms, the activations vanish and the
    network does not learn. The last linear layer, which gives the logits and has no ReLU, has a standard deviation of
    0.01, as in the VGG paper: max pooling increases the activations, and large initial logits make the first steps too
    long.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv 1502.01852.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if isinstance(layers[-1], nn.Linear):
        nn.init.normal_(layers[-1].weight, std=_LAST_LAYER_STD)
