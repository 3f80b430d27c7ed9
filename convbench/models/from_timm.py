"""Any classifier of timm (PyTorch Image Models), by name, where timm is installed."""

import difflib
from typing import Any, cast

from torch import nn

from convbench.errors import UserError


def timm_classifier(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """A timm network with random weights; what it spares weight decay (`no_weight_decay`) is spared here too.

    Args:
        name: as `timm.list_models()` spells it, such as `resnet26d`.
        num_classes: logits.
        in_channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: if timm is not installed, or has no such network.
    """
    try:
        import timm  # seconds, and only where it is used
    except ImportError as error:
        raise UserError("model=timm needs timm, which is not installed: pip install timm (model)") from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=8, cutoff=0.0)
        raise UserError(f"timm has no network {name!r}; those most like it: {', '.join(near)} (model.name)")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    spared: set[str] = getattr(network, "no_weight_decay", set)()
    parameters = dict(network.named_parameters())
    cast(Any, network).optimizer_options = {key: {"weight_decay": 0.0} for key in spared if key in parameters}
    cast(Any, network).name = name
    return network
