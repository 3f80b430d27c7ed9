"""Plain float64 formulas, independent of convbench's implementations, for each conv's own parameters."""

import torch
from torch import Tensor, nn


def standard(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    return _conv2d(conv, x, p["weight"], p.get("bias"))


from_scratch = standard


def weighted_sum(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    dense = torch.stack(
        [
            torch.stack(
                [p["pointwise_weight"][o, i, 0, 0] * p["depthwise_weight"][o, 0] for i in range(_per_group(conv))]
            )
            for o in range(conv.out_channels)
        ]
    )
    return _conv2d(conv, x, dense, p.get("bias"))


def dynamic(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Mix the experts of one image after the other."""
    images = []
    for image in x:
        hidden = (p["attention.squeeze.weight"] @ image.mean((1, 2))).clamp(min=0)
        logits = (p["attention.excite.weight"] @ hidden + p["attention.excite.bias"]) / p["temperature"]
        shares = logits.exp() / logits.exp().sum()
        experts = p["weight"].reshape(conv.num_experts, conv.out_channels, _per_group(conv), *conv.kernel_size)
        weight = sum(share * expert for share, expert in zip(shares, experts, strict=True))
        bias = sum(share * b for share, b in zip(shares, p["bias"], strict=True)) if "bias" in p else None
        images.append(_conv2d(conv, image[None], weight, bias))
    return torch.cat(images)


def condconv(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Mix the experts of one image after the other."""
    images = []
    for image in x:
        logits = p["routing.weight"] @ image.mean((1, 2)) + p["routing.bias"]
        shares = 1 / (1 + (-logits).exp())
        experts = p["weight"].reshape(conv.num_experts, conv.out_channels, _per_group(conv), *conv.kernel_size)
        weight = sum(share * expert for share, expert in zip(shares, experts, strict=True))
        bias = sum(share * b for share, b in zip(shares, p["bias"], strict=True)) if "bias" in p else None
        images.append(_conv2d(conv, image[None], weight, bias))
    return torch.cat(images)


def odconv(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Mix and scale the experts of one image after the other, all factors multiplied onto the kernel."""
    per_group, per_output = _per_group(conv), conv.out_channels // conv.groups
    images = []
    for image in x:
        hidden = (p["squeeze.weight"] @ image.mean((1, 2))).clamp(min=0)

        def head(name: str, hidden: Tensor = hidden) -> Tensor:
            return (p[f"{name}.weight"] @ hidden + p[f"{name}.bias"]) / p["temperature"]

        shares = head("experts").exp() / head("experts").exp().sum()
        experts = p["weight"].reshape(conv.num_experts, conv.out_channels, per_group, *conv.kernel_size)
        weight = sum(share * expert for share, expert in zip(shares, experts, strict=True))
        if "taps.weight" in p:
            weight = weight * head("taps").sigmoid().reshape(conv.kernel_size)
        if "filters.weight" in p:
            weight = weight * head("filters").sigmoid()[:, None, None, None]
        channels = head("channels").sigmoid()
        of_outputs = [channels[o // per_output * per_group :][:per_group] for o in range(conv.out_channels)]
        weight = weight * torch.stack(of_outputs)[:, :, None, None]
        bias = sum(share * b for share, b in zip(shares, p["bias"], strict=True)) if "bias" in p else None
        images.append(_conv2d(conv, image[None], weight, bias))
    return torch.cat(images)


def _per_group(conv: nn.Module) -> int:
    return conv.in_channels // conv.groups


def _conv2d(conv: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Let an nn.Conv2d of the same geometry do it, with its own padding."""
    twin = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        bias is not None,
        conv.padding_mode,
        device="meta",
    )
    values = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return torch.func.functional_call(twin, values, (x,))
