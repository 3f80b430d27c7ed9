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


def grouped(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """An nn.Conv2d with as many groups: conv.groups counts those of the cardinality."""
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
    """One ghost after the other, by shifted sums of its intrinsic map."""
    primary, cheap = p["primary_weight"], p["cheap_weight"]
    intrinsic = _conv2d(conv, x, primary, None)
    maps, size = list(intrinsic.unbind(1)), cheap.shape[2]
    high, wide = intrinsic.shape[2:]
    for ghost, kernel in enumerate(cheap[:, 0]):
        padded = torch.nn.functional.pad(maps[ghost % len(primary)], [size // 2] * 4)
        maps.append(sum(kernel[i, j] * padded[:, i : i + high, j : j + wide] for i in range(size) for j in range(size)))
    y = torch.stack(maps, 1)
    return y + p["bias"][:, None, None] if "bias" in p else y


def coordconv(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Write the coordinates pixel by pixel."""
    high, wide = x.shape[2:]
    places = torch.zeros(2, high, wide, dtype=x.dtype)
    for i in range(high):
        for j in range(wide):
            places[0, i, j] = 2 * i / (high - 1) - 1 if high > 1 else 0
            places[1, i, j] = 2 * j / (wide - 1) - 1 if wide > 1 else 0
    seen = torch.cat([x, places.expand(len(x), -1, -1, -1)], 1)
    return _conv2d(conv, seen, p["weight"], p.get("bias"))


def weight_standardised(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    kernels = []
    for kernel in p["weight"]:
        centred = kernel - kernel.sum() / kernel.numel()
        deviation = ((centred**2).sum() / kernel.numel() + conv.epsilon) ** 0.5
        kernels.append(centred / deviation / kernel.numel() ** 0.5)
    return _conv2d(conv, x, torch.stack(kernels), p.get("bias"))


def partial(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Convolve the first channels with the others as identities, in one dense kernel, then mix."""
    kernel, mix = p["partial_weight"], p["pointwise_weight"][:, :, 0, 0]
    convolved = _conv2d(conv, x[:, : len(kernel)], kernel, None)
    y = torch.einsum("oi,nihw->nohw", mix, torch.cat([convolved, x[:, len(kernel) :]], 1))
    return y + p["bias"][:, None, None] if "bias" in p else y


def large_kernel(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Fold both factors into one dense kernel; conv.kernel_size and conv.padding are those of the large one."""
    dense = torch.einsum("oi,ihw->oihw", p["pointwise_weight"][:, :, 0, 0], p["depthwise_weight"][:, 0])
    return _conv2d(conv, x, dense, p.get("bias"))


def pyramidal(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Write every level's kernels, block by block, into the middle of a dense kernel of the largest size."""
    kernels = []
    for level, groups in enumerate(conv.level_groups):
        weight, less = p[f"weights.{level}"], len(conv.level_groups) - 1 - level
        for o, kernel in enumerate(weight):
            dense = torch.zeros(conv.in_channels, *conv.kernel_size, dtype=x.dtype)
            first = o // (len(weight) // groups) * len(kernel)
            high, wide = kernel.shape[1:]
            dense[first : first + len(kernel), less : less + high, less : less + wide] = kernel
            kernels.append(dense)
    return _conv2d(conv, x, torch.stack(kernels), p.get("bias"))


def involution(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Place by place: make a kernel from the pixels under it, and lay it over the neighbours."""
    padded, (sh, sw), (dh, dw), (kh, kw) = _padded(conv, x), conv.stride, conv.dilation, conv.kernel_size
    high = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    wide = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    hidden = torch.einsum("ri,nihw->nrhw", p["reduce_weight"][:, :, 0, 0], _shrunk(x, high, wide))
    kernels = (
        torch.einsum("sr,nrhw->nshw", p["span_weight"][:, :, 0, 0], hidden.clamp(min=0)) + p["span_bias"][:, None, None]
    )
    kernels = kernels.reshape(len(x), -1, kh, kw, high, wide).repeat_interleave(
        conv.in_channels // conv.kernel_groups, 1
    )
    rows = []
    for i in range(high):
        places = []
        for j in range(wide):
            patch = padded[:, :, i * sh : i * sh + dh * (kh - 1) + 1 : dh, j * sw : j * sw + dw * (kw - 1) + 1 : dw]
            places.append((kernels[..., i, j] * patch).sum((2, 3)))
        rows.append(torch.stack(places, 2))
    y = torch.stack(rows, 2)
    return y + p["bias"][:, None, None] if "bias" in p else y


def deformable(conv: nn.Module, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Tap by tap, on an image with so wide a border of zeros that nobody looks beyond it."""
    kh, kw = conv.kernel_size
    steering = _conv2d(conv, x, p["offset_weight"], p["offset_bias"], groups=1)
    blocks = len(p["offset_bias"]) // (3 * kh * kw)
    offsets = steering[:, : 2 * blocks * kh * kw].reshape(len(x), blocks, kh * kw, 2, *steering.shape[2:])
    masks = 1 / (1 + (-steering[:, 2 * blocks * kh * kw :]).exp()).reshape(len(x), blocks, kh * kw, *steering.shape[2:])
    seen, border = _padded(conv, x), 16
    seen = torch.nn.functional.pad(seen, [border] * 4)
    rows = torch.arange(steering.shape[2])[:, None] * conv.stride[0] + border
    columns = torch.arange(steering.shape[3])[None, :] * conv.stride[1] + border
    per_block, per_group, per_output = conv.in_channels // blocks, _per_group(conv), conv.out_channels // conv.groups
    images = []
    for n in range(len(x)):
        y = torch.zeros(conv.out_channels, *steering.shape[2:], dtype=x.dtype)
        for channel in range(conv.in_channels):
            block, group = channel // per_block, channel // per_group
            for tap in range(kh * kw):
                down = rows + tap // kw * conv.dilation[0] + offsets[n, block, tap, 0]
                right = columns + tap % kw * conv.dilation[1] + offsets[n, block, tap, 1]
                i, j = down.detach().floor().long(), right.detach().floor().long()
                a, b, image = down - i, right - j, seen[n, channel]
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
    """Pad as an nn.Conv2d of this geometry does."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    if conv.padding == "valid":
        return x
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = list(conv.padding)
    return torch.nn.functional.pad(x, (before[1], after[1], before[0], after[0]), mode)


def _shrunk(x: Tensor, high: int, wide: int) -> Tensor:
    """Average over the pixels that fall on each pixel of the smaller image, counted as adaptive pooling counts them."""

    def span(index: int, outputs: int, inputs: int) -> slice:
        return slice(index * inputs // outputs, -(-(index + 1) * inputs // outputs))

    rows = [
        torch.stack(
            [x[:, :, span(i, high, x.shape[2]), span(j, wide, x.shape[3])].mean((2, 3)) for j in range(wide)],
            2,
        )
        for i in range(high)
    ]
    return torch.stack(rows, 2)


def _per_group(conv: nn.Module) -> int:
    return conv.in_channels // conv.groups


def _conv2d(conv: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int | None = None) -> Tensor:
    """Let an nn.Conv2d of the same geometry do it, with its own padding; the channels are those of the weight."""
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
