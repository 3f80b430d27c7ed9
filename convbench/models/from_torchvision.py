"""Classification networks of torchvision."""

from typing import Any, cast

from torch import nn

from convbench.errors import UserError

# Networks with auxiliary classifiers, which return several outputs in training mode unless they are disabled.
_WITH_AUXILIARY = ("googlenet", "inception_v3")
# Components of the names of parameters without weight decay, in addition to norms and biases, as in the training of the
# authors of ViT, Swin and ConvNeXt.
_WITHOUT_WEIGHT_DECAY = {
    "class_token",
    "pos_embedding",
    "layer_scale",
    "relative_position_bias_table",
    "logit_scale",
    "cpb_mlp",
}


def torchvision_classifier(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Create a torchvision classification network with random weights.

    Position embeddings, class tokens and layer scales get no weight decay, as in the authors' training.

    Args:
        name: Name of the network in `torchvision.models.list_models()`, such as `resnet18`.
        num_classes: Number of logits.
        in_channels: Number of input channels, 1 for grey and 3 for RGB images. The networks of torchvision take 3
            channels; for any other number, a new convolution replaces the first one.

    Raises:
        UserError: torchvision has no classification network of this name.
    """
    from torchvision import models  # imported here because the import takes 1.5 s

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}; choose one of {', '.join(known)} (model.name)")
    arguments: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name in _WITH_AUXILIARY:
        arguments |= {"aux_logits": False, "init_weights": True}
    network: nn.Module = models.get_model(name, **arguments)
    if in_channels != 3:
        _replace_stem(network, in_channels)
    undecayed = (key for key, _ in network.named_parameters() if _WITHOUT_WEIGHT_DECAY & set(key.split(".")))
    cast(Any, network).optimizer_options = {key: {"weight_decay": 0.0} for key in undecayed}
    cast(Any, network).name = name
    return network


def _replace_stem(network: nn.Module, in_channels: int) -> None:
    """Replace the first convolution by one for `in_channels` channels, with the usual initialisation of torchvision."""
    stems = ((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    path, stem = next(stems)
    parent, _, child = path.rpartition(".")
    size, stride, padding = (cast(Any, value) for value in (stem.kernel_size, stem.stride, stem.padding))
    new = nn.Conv2d(in_channels, stem.out_channels, size, stride, padding, bias=stem.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    setattr(network.get_submodule(parent), child, new)
