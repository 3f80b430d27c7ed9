"""Any classifier of torchvision, by name."""

from torch import nn

from convbench.errors import UserError


def torchvision_classifier(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """A torchvision classification network with random weights.

    Args:
        name: as `torchvision.models.list_models()` spells it, such as `resnet18`.
        num_classes: logits.
        in_channels: must be 3, which is what torchvision's stems take.

    Raises:
        UserError: for an unknown name, or images that are not RGB.
    """
    from torchvision import models  # 1.5 s, only where it is used

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}; choose one of {', '.join(known)} (model.name)")
    if in_channels != 3:
        raise UserError(
            f"torchvision's {name} has a 3-channel stem, but the images have {in_channels}: "
            f"choose RGB data (data.channels=3 for a folder) or model=resnet (model)"
        )
    network = models.get_model(name, weights=None, num_classes=num_classes)
    network.name = name
    return network
