from functools import partial

import pytest
import torch
from torch import nn

from convbench.convs.deformable import DeformableConv2d
from convbench.convs.dynamic import DynamicConv2d
from convbench.engine.optimizers import build_optimizer, parameter_groups, set_learning_rate
from convbench.errors import UserError
from convbench.models.convnext import ConvNeXt
from convbench.models.from_torchvision import torchvision_classifier
from convbench.models.resnet import ResNet

CPU = torch.device("cpu")


def names_by_decay(network: nn.Module) -> tuple[set[str], set[str]]:
    """The names of the parameters without and with weight decay, from the groups of an optimizer."""
    optimizer = build_optimizer(partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), network, CPU)
    names = {parameter: name for name, parameter in network.named_parameters()}
    sets: dict[float, set[str]] = {0.0: set(), 0.1: set()}
    for group in optimizer.param_groups:
        sets[group["weight_decay"]] |= {names[parameter] for parameter in group["params"]}
    return sets[0.0], sets[0.1]


def test_norms_and_biases_get_no_weight_decay_and_weights_do() -> None:
    without_decay, with_decay = names_by_decay(ResNet(8, 3, stem="3x3_bias", widths=[4, 4, 8]))
    assert {"conv1.bias", "layer1.0.bn1.weight", "layer1.0.bn1.bias", "fc.bias"} <= without_decay
    assert {"conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"} <= with_decay
    assert all("bn" in name or "downsample.1" in name or name.endswith("bias") for name in without_decay)
    assert all(name.endswith("weight") and "bn" not in name for name in with_decay)


def test_a_bias_with_a_row_for_each_expert_gets_no_weight_decay() -> None:
    conv = DynamicConv2d(4, 8, 3)
    assert conv.bias is not None
    assert conv.bias.ndim == 2
    without_decay, with_decay = names_by_decay(conv)
    assert without_decay == {"bias", "attention.excite.bias"}
    assert with_decay == {"weight", "attention.squeeze.weight", "attention.excite.weight"}


@pytest.mark.parametrize(
    "network",
    [ResNet(8, 3), DynamicConv2d(4, 8, 3), nn.Sequential(DeformableConv2d(4, 8, 3), nn.BatchNorm2d(8))],
    ids=["resnet", "dynamic", "deformable"],
)
def test_every_parameter_is_in_exactly_one_group(network: nn.Module) -> None:
    grouped = [id(parameter) for group in parameter_groups(network) for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in network.parameters()}


def test_frozen_parameters_are_left_out() -> None:
    network = ResNet(8, 3)
    network.conv1.weight.requires_grad_(False)
    grouped = {id(parameter) for group in parameter_groups(network) for parameter in group["params"]}
    assert id(network.conv1.weight) not in grouped
    assert len(grouped) == len(list(network.parameters())) - 1


def test_a_step_with_zero_gradients_decays_only_weights() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    nn.init.ones_(network[0].bias)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(partial(torch.optim.SGD, lr=0.5, weight_decay=0.1), network, CPU).step()
    after = dict(network.named_parameters())
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * 0.95)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.AdamW])
def test_the_fused_kernel_is_used_if_the_optimizer_has_one(optimizer_class: type[torch.optim.Optimizer]) -> None:
    optimizer = build_optimizer(partial(optimizer_class, lr=0.1), nn.Linear(2, 2), CPU)
    assert all(group["fused"] for group in optimizer.param_groups)


def test_an_optimizer_without_a_fused_kernel_can_be_built() -> None:
    optimizer = build_optimizer(partial(torch.optim.Adamax, lr=0.1), nn.Linear(2, 2), CPU)
    assert isinstance(optimizer, torch.optim.Adamax)


def test_another_implementation_of_the_step_can_be_chosen_and_a_contradictory_choice_is_refused() -> None:
    chosen = build_optimizer(partial(torch.optim.SGD, lr=0.1, foreach=True), nn.Linear(2, 2), torch.device("cpu"))
    assert (chosen.defaults["foreach"], chosen.defaults["fused"]) == (True, None)
    both = partial(torch.optim.SGD, lr=0.1, foreach=True, fused=True)
    with pytest.raises(UserError, match=r"\(optimizer\)$"):
        build_optimizer(both, nn.Linear(2, 2), torch.device("cpu"))


def test_fused_and_unfused_steps_agree() -> None:
    torch.manual_seed(0)
    networks = [nn.Linear(5, 5), nn.Linear(5, 5)]
    networks[1].load_state_dict(networks[0].state_dict())
    arguments = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    optimizers = [
        build_optimizer(partial(torch.optim.SGD, **arguments), networks[0], CPU),
        torch.optim.SGD(parameter_groups(networks[1]), **arguments),
    ]
    inputs = torch.randn(3, 5)
    for _ in range(3):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(inputs).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(networks[0].weight, networks[1].weight)


def test_a_learning_rate_stored_as_a_number_is_set_in_every_group() -> None:
    optimizer = build_optimizer(partial(torch.optim.SGD, lr=0.1), nn.Linear(2, 2), CPU)
    set_learning_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]


def test_a_learning_rate_stored_as_a_tensor_is_updated_in_place() -> None:
    optimizer = build_optimizer(partial(torch.optim.SGD, lr=0.1), nn.Linear(2, 2), CPU)
    tensors = [torch.tensor(0.1), torch.tensor(0.1)]
    for group, tensor in zip(optimizer.param_groups, tensors, strict=True):
        group["lr"] = tensor
    set_learning_rate(optimizer, 0.025)
    for group, tensor in zip(optimizer.param_groups, tensors, strict=True):
        assert group["lr"] is tensor
        assert tensor.item() == pytest.approx(0.025)


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.AdamW])
def test_the_offset_rate_scales_the_learning_rate_and_the_decay_of_the_offset_parameters(
    optimizer_class: type[torch.optim.Optimizer],
) -> None:
    changes = {}
    for offset_rate in (1.0, 0.1):
        conv = DeformableConv2d(4, 8, 3, offset_rate=offset_rate)
        optimizer = build_optimizer(partial(optimizer_class, lr=0.5, weight_decay=0.2), conv, CPU)
        set_learning_rate(optimizer, 0.25)
        for parameter in conv.parameters():
            nn.init.ones_(parameter)
            parameter.grad = torch.full_like(parameter, 0.3)
        optimizer.step()
        changes[offset_rate] = {name: 1 - value.detach() for name, value in conv.named_parameters()}
    for name, change in changes[0.1].items():
        rate = 0.1 if name.startswith("offset") else 1.0
        torch.testing.assert_close(change, rate * changes[1.0][name], rtol=1e-4, atol=0)
    weight, bias = changes[0.1]["offset_weight"], changes[0.1]["offset_bias"]
    assert (weight.amin() - bias.amax()).item() == pytest.approx(0.25 * 0.1 * 0.2 * 1, rel=1e-3)  # the weight decay


def test_a_scaled_learning_rate_stored_as_a_tensor_is_updated_in_place() -> None:
    optimizer = build_optimizer(partial(torch.optim.SGD, lr=0.1), DeformableConv2d(4, 8, 3), CPU)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    tensors = [torch.tensor(0.1) for _ in optimizer.param_groups]
    for group, tensor in zip(optimizer.param_groups, tensors, strict=True):
        group["lr"] = tensor
    set_learning_rate(optimizer, 0.5)
    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    assert [tensor.item() for tensor in tensors] == pytest.approx([0.5, 0.5, 0.05, 0.05])


def test_parameters_that_the_authors_of_a_network_exclude_get_no_weight_decay() -> None:
    ours, _ = names_by_decay(ConvNeXt([1, 1], "3x3", 10, widths=[4, 8]))
    assert {"features.1.0.scale.weight", "features.3.0.scale.weight"} <= ours
    wanted = {
        "convnext_tiny": {"features.1.0.layer_scale"},
        "vit_b_16": {"class_token", "encoder.pos_embedding"},
        "swin_v2_t": {"features.1.0.attn.logit_scale", "features.1.0.attn.cpb_mlp.0.weight"},
        "swin_t": {"features.1.0.attn.relative_position_bias_table"},
    }
    for name, parameters in wanted.items():
        with torch.device("meta"):
            without_decay, with_decay = names_by_decay(torchvision_classifier(name, 10, 3))
        assert parameters <= without_decay, name
        assert all("weight" in key for key in with_decay), name
