"""Reference formulas for each convolution in plain float64, independent of the implementations of convbench."""

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
    """Mix the experts separately for each image."""
    images = []
    for image in x:
        hidden = (p["attention.squeeze.weight"] @ image.mean((1, 2))).clamp(min=0)
        logits = (p["attention.excite.weight"] @ hidden + p["attention.excite.bias"]) / p["temperature"]
        routing_weights = logits.exp() / logits.exp().sum()
        images.append(_conv2d(conv, image[None], *_mixed(conv, routing_weights, p)))
    return torch.cat(images)


def condconv(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Mix the experts separately for each image."""
    images = []
    for image in x:
        logits = p["routing.weight"] @ image.mean((1, 2)) + p["routing.bias"]
        images.append(_conv2d(conv, image[None], *_mixed(conv, 1 / (1 + (-logits).exp()), p)))
    return torch.cat(images)


def odconv(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Mix the experts separately for each image, and multiply the kernel by all factors."""
    per_group, per_output = _per_group(conv), conv.out_channels // conv.groups
    images = []
    for image in x:
        hidden = (p["squeeze.weight"] @ image.mean((1, 2))).clamp(min=0)

        def head(name: str, hidden: Tensor = hidden) -> Tensor:
            return (p[f"{name}.weight"] @ hidden + p[f"{name}.bias"]) / p["temperature"]

        weight, bias = _mixed(conv, head("experts").exp() / head("experts").exp().sum(), p)
        if "taps.weight" in p:
            weight = weight * head("taps").sigmoid().reshape(conv.kernel_size)
        if "filters.weight" in p:
            weight = weight * head("filters").sigmoid()[:, None, None, None]
        channels = head("channels").sigmoid()
        channel_factors = [channels[o // per_output * per_group :][:per_group] for o in range(conv.out_channels)]
        weight = weight * torch.stack(channel_factors)[:, :, None, None]
        images.append(_conv2d(conv, image[None], weight, bias))
    return torch.cat(images)


def grouped(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Use an nn.Conv2d with the same groups; `conv.groups` includes the cardinality."""
    return _conv2d(conv, x, p["weight"], p.get("bias"))


def depthwise_separable(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Fold both factors into one dense kernel, entry by entry."""
    per_output = conv.out_channels // conv.groups
    rows = []
    for o in range(conv.out_channels):
        first = o // per_output * _per_group(conv)
        kernels = [
            p["pointwise_weight"][o, i, 0, 0] * p["depthwise_weight"][first + i, 0] for i in range(_per_group(conv))
        ]
        rows.append(torch.stack(kernels))
    return _conv2d(conv, x, torch.stack(rows), p.get("bias"))


def blueprint_s(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    mix = torch.einsum("om,mi->oi", p["expand_weight"][:, :, 0, 0], p["squeeze_weight"][:, :, 0, 0])
    return _conv2d(conv, x, torch.einsum("oi,ohw->oihw", mix, p["depthwise_weight"][:, 0]), p.get("bias"))


def ghost(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Compute each ghost map as a sum of shifted copies of its intrinsic map."""
    primary, cheap = p["primary_weight"], p["cheap_weight"]
    intrinsic = _conv2d(conv, x, primary, None)
    maps, size = list(intrinsic.unbind(1)), cheap.shape[2]
    height, width = intrinsic.shape[2:]
    for ghost, kernel in enumerate(cheap[:, 0]):
        padded = torch.nn.functional.pad(maps[ghost % len(primary)], [size // 2] * 4)
        maps.append(
            sum(kernel[i, j] * padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size))
        )
    y = torch.stack(maps, 1)
    return y + p["bias"][:, None, None] if "bias" in p else y


def coordconv(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Compute the coordinates of each pixel separately."""
    height, width = x.shape[2:]
    coordinates = torch.zeros(2, height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            coordinates[0, i, j] = 2 * i / (height - 1) - 1 if height > 1 else 0
            coordinates[1, i, j] = 2 * j / (width - 1) - 1 if width > 1 else 0
    channels = torch.cat([x, coordinates.expand(len(x), -1, -1, -1)], 1)
    return _conv2d(conv, channels, p["weight"], p.get("bias"))


def weight_standardised(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    kernels = []
    for kernel in p["weight"]:
        centred = kernel - kernel.sum() / kernel.numel()
        deviation = ((centred**2).sum() / kernel.numel() + conv.epsilon) ** 0.5
        kernels.append(centred / deviation / kernel.numel() ** 0.5)
    return _conv2d(conv, x, torch.stack(kernels), p.get("bias"))


def partial(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Convolve the first channels, append the others, then mix all channels."""
    kernel, mix = p["partial_weight"], p["pointwise_weight"][:, :, 0, 0]
    convolved = _conv2d(conv, x[:, : len(kernel)], kernel, None)
    y = torch.einsum("oi,nihw->nohw", mix, torch.cat([convolved, x[:, len(kernel) :]], 1))
    return y + p["bias"][:, None, None] if "bias" in p else y


def large_kernel(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Fold both factors into one dense kernel; `conv.kernel_size` and `conv.padding` are those of the large kernel."""
    dense = torch.einsum("oi,ihw->oihw", p["pointwise_weight"][:, :, 0, 0], p["depthwise_weight"][:, 0])
    return _conv2d(conv, x, dense, p.get("bias"))


def pyramidal(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Copy the kernels of each level and group into the centre of a dense kernel of the largest size."""
    kernels = []
    for level, groups in enumerate(conv.level_groups):
        weight, margin = p[f"weights.{level}"], len(conv.level_groups) - 1 - level
        for o, kernel in enumerate(weight):
            dense = torch.zeros(conv.in_channels, *conv.kernel_size, dtype=x.dtype)
            first = o // (len(weight) // groups) * len(kernel)
            height, width = kernel.shape[1:]
            dense[first : first + len(kernel), margin : margin + height, margin : margin + width] = kernel
            kernels.append(dense)
    return _conv2d(conv, x, torch.stack(kernels), p.get("bias"))


def involution(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Compute the kernel of each pixel, and multiply it with the neighbours of the pixel."""
    padded, (sh, sw), (dh, dw), (kh, kw) = _padded(conv, x), conv.stride, conv.dilation, conv.kernel_size
    height = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    hidden = torch.einsum("ri,nihw->nrhw", p["reduce_weight"][:, :, 0, 0], _average_pooled(x, height, width))
    kernels = (
        torch.einsum("sr,nrhw->nshw", p["span_weight"][:, :, 0, 0], hidden.clamp(min=0)) + p["span_bias"][:, None, None]
    )
    kernels = kernels.reshape(len(x), -1, kh, kw, height, width).repeat_interleave(
        conv.in_channels // conv.kernel_groups, 1
    )
    rows = []
    for i in range(height):
        outputs = []
        for j in range(width):
            patch = padded[:, :, i * sh : i * sh + dh * (kh - 1) + 1 : dh, j * sw : j * sw + dw * (kw - 1) + 1 : dw]
            outputs.append((kernels[..., i, j] * patch).sum((2, 3)))
        rows.append(torch.stack(outputs, 2))
    y = torch.stack(rows, 2)
    return y + p["bias"][:, None, None] if "bias" in p else y


def deformable(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Sample each tap separately, on an image with a border of zeros that is wider than any offset."""
    kh, kw = conv.kernel_size
    offset_and_mask = _conv2d(conv, x, p["offset_weight"], p["offset_bias"], groups=1)
    blocks = len(p["offset_bias"]) // (3 * kh * kw)
    offsets = offset_and_mask[:, : 2 * blocks * kh * kw].reshape(len(x), blocks, kh * kw, 2, *offset_and_mask.shape[2:])
    masks = 1 / (1 + (-offset_and_mask[:, 2 * blocks * kh * kw :]).exp()).reshape(
        len(x), blocks, kh * kw, *offset_and_mask.shape[2:]
    )
    padded, border = _padded(conv, x), 16
    padded = torch.nn.functional.pad(padded, [border] * 4)
    rows = torch.arange(offset_and_mask.shape[2])[:, None] * conv.stride[0] + border
    columns = torch.arange(offset_and_mask.shape[3])[None, :] * conv.stride[1] + border
    per_block, per_group, per_output = conv.in_channels // blocks, _per_group(conv), conv.out_channels // conv.groups
    images = []
    for n in range(len(x)):
        y = torch.zeros(conv.out_channels, *offset_and_mask.shape[2:], dtype=x.dtype)
        for channel in range(conv.in_channels):
            block, group = channel // per_block, channel // per_group
            for tap in range(kh * kw):
                down = rows + tap // kw * conv.dilation[0] + offsets[n, block, tap, 0]
                right = columns + tap % kw * conv.dilation[1] + offsets[n, block, tap, 1]
                i, j = down.detach().floor().long(), right.detach().floor().long()
                a, b, image = down - i, right - j, padded[n, channel]
                above = (1 - b) * image[i, j] + b * image[i, j + 1]
                below = (1 - b) * image[i + 1, j] + b * image[i + 1, j + 1]
                value = masks[n, block, tap] * ((1 - a) * above + a * below)
                of_group = slice(group * per_output, (group + 1) * per_output)
                weight = p["weight"][of_group, channel % per_group, tap // kw, tap % kw]
                y = torch.cat([y[: of_group.start], y[of_group] + weight[:, None, None] * value, y[of_group.stop :]])
        images.append(y)
    y = torch.stack(images)
    return y + p["bias"][:, None, None] if "bias" in p else y


def _padded(conv: nn.Module, x: Tensor) -> Tensor:
    """Pad an image as an nn.Conv2d of this geometry does."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    if conv.padding == "valid":
        return x
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = list(conv.padding)
    return torch.nn.functional.pad(x, (before[1], after[1], before[0], after[0]), mode)


def _average_pooled(x: Tensor, height: int, width: int) -> Tensor:
    """Average an image over the regions of adaptive pooling to this size."""

    def span(index: int, outputs: int, inputs: int) -> slice:
        return slice(index * inputs // outputs, -(-(index + 1) * inputs // outputs))

    rows = [
        torch.stack(
            [x[:, :, span(i, height, x.shape[2]), span(j, width, x.shape[3])].mean((2, 3)) for j in range(width)],
            2,
        )
        for i in range(height)
    ]
    return torch.stack(rows, 2)


def _mixed(conv: nn.Module, routing_weights: Tensor, p: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Mix the kernels and the biases of the experts for one image with the routing weights (K,)."""
    experts = p["weight"].reshape(conv.num_experts, conv.out_channels, _per_group(conv), *conv.kernel_size)
    weight = sum(alpha * expert for alpha, expert in zip(routing_weights, experts, strict=True))
    bias = sum(alpha * b for alpha, b in zip(routing_weights, p["bias"], strict=True)) if "bias" in p else None
    return weight, bias


def _per_group(conv: nn.Module) -> int:
    return conv.in_channels // conv.groups


def _conv2d(conv: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int | None = None) -> Tensor:
    """Compute a convolution with an nn.Conv2d of the same geometry and padding, and the channels of the weight."""
    groups = groups or conv.groups
    twin = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        groups,
        bias is not None,
        conv.padding_mode,
        device="meta",
    )
    values = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return torch.func.functional_call(twin, values, (x,))
