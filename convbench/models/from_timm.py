"""Classification networks of timm (PyTorch Image Models), an optional dependency."""

import difflib
from typing import Any, cast

from torch import nn

from convbench.errors import UserError


def timm_classifier(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Create a timm network with random weights.

    The parameters that its method `no_weight_decay` names get no weight decay.

    Args:
        name: Name of the network in `timm.list_models()`, such as `resnet26d`.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images.

    Raises:
        UserError: timm is not installed, or has no network of this name.
    """
    try:
        import timm  # imported here because the import takes seconds, and timm may not be installed
    except ImportError as error:
        raise UserError("model=timm needs timm, which is not installed: pip install timm (model)") from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=8, cutoff=0.0)
        raise UserError(f"timm has no network {name!r}; the most similar names are {', '.join(near)} (model.name)")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    undecayed: set[str] = getattr(network, "no_weight_decay", set)()
    parameters = dict(network.named_parameters())
    cast(Any, network).optimizer_options = {key: {"weight_decay": 0.0} for key in undecayed if key in parameters}
    cast(Any, network).name = name
    return network
