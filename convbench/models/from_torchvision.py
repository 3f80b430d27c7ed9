"""Any classifier of torchvision, by name."""

from typing import Any, cast

from torch import nn

from convbench.errors import UserError

# Networks with a second classifier beside the last layers, which would give logits in pairs while training.
_WITH_AUXILIARY = ("googlenet", "inception_v3")
# What weight decay would only harm beside norms and biases, as the authors of ViT, Swin and ConvNeXt have it: parts of
# the names of parameters.
_SPARED = {"class_token", "pos_embedding", "layer_scale", "relative_position_bias_table", "logit_scale", "cpb_mlp"}


def torchvision_classifier(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """A torchvision classification network with random weights.

    Position embeddings, class tokens and layer scales are to have no weight decay, as its authors have it.

    Args:
        name: as `torchvision.models.list_models()` spells it, such as `resnet18`.
        num_classes: logits.
        in_channels: 1 for grey, 3 for RGB. The stems of torchvision take 3; for any other number the first convolution
            is made anew.

    Raises:
        UserError: for an unknown name.
    """
    from torchvision import models  # 1.5 s, only where it is used

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}; choose one of {', '.join(known)} (model.name)")
    arguments: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name in _WITH_AUXILIARY:
        arguments |= {"aux_logits": False, "init_weights": True}
    network: nn.Module = models.get_model(name, **arguments)
    if in_channels != 3:
        _widen_stem(network, in_channels)
    spared = (key for key, _ in network.named_parameters() if _SPARED & set(key.split(".")))
    cast(Any, network).optimizer_options = {key: {"weight_decay": 0.0} for key in spared}
    cast(Any, network).name = name
    return network


def _widen_stem(network: nn.Module, in_channels: int) -> None:
    """Put a convolution for so many channels in the place of the first one, drawn as torchvision draws most of its."""
    stems = ((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    path, stem = next(stems)
    parent, _, child = path.rpartition(".")
    size, stride, padding = (cast(Any, value) for value in (stem.kernel_size, stem.stride, stem.padding))
    new = nn.Conv2d(in_channels, stem.out_channels, size, stride, padding, bias=stem.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    setattr(network.get_submodule(parent), child, new)
