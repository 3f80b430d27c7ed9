"""The swap of the convolutions of a network: replaced layers, initial values, and the report."""

import re
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from convbench.convs.dynamic import DynamicConv2d
from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.standard import StandardConv2d
from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.errors import UserError


class Subclass(nn.Conv2d):
    """A subclass of nn.Conv2d, as other libraries define."""


class Nested(nn.Module):
    """A user's class that contains an nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None) -> None:  # fmt: skip
        super().__init__()
        self.inner = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                               padding_mode, device, dtype)  # fmt: skip


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.ReLU(),
        nn.Sequential(Subclass(4, 4, 1, bias=False), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)),
    )


def test_every_conv_of_a_torchvision_network_is_replaced() -> None:
    with torch.device("meta"):
        network = torchvision.models.mobilenet_v3_small()
    count = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    network, report = swap_convs(network, WeightedSumConv2d)
    assert not any(isinstance(module, nn.Conv2d) for module in network.modules())
    assert report.summary() == f"{count} of {count} convs are weighted_sum (pointwise)"
    assert [row.name for row in report.rows][:2] == ["features.0.0", "features.1.block.0.0"]
    assert network(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1000)


def test_subclasses_are_replaced_and_the_geometry_is_kept() -> None:
    network, report = swap_convs(small(), WeightedSumConv2d)
    assert isinstance(network[2][0], WeightedSumConv2d)
    conv = network[2][1]
    assert (conv.stride, conv.padding, conv.groups, conv.bias) == ((2, 2), (1, 1), 2, None)
    assert [row.status for row in report.rows] == ["swapped"] * 3
    assert [row.description for row in report.rows] == ["3 to 4, 3x3", "4 to 4, 1x1", "4 to 6, 3x3, stride 2, groups 2"]


def test_nothing_inside_a_replacement_is_replaced() -> None:
    network, _ = swap_convs(small(), Nested)
    assert type(network[0].inner) is nn.Conv2d
    conv = StandardConv2d(2, 2, 3)
    conv.inner = nn.Conv2d(2, 2, 1)
    network, report = swap_convs(nn.Sequential(conv, *swap_convs(small(), DynamicConv2d)[0]), WeightedSumConv2d)
    assert report.summary() == "the network has no convs to swap"
    assert isinstance(network[1], DynamicConv2d)
    assert type(conv.inner) is nn.Conv2d


def test_a_network_that_is_a_conv_itself_is_replaced() -> None:
    network, report = swap_convs(nn.Conv2d(2, 4, 3), partial(WeightedSumConv2d, implementation="folded"))
    assert isinstance(network, WeightedSumConv2d)
    assert report.summary() == "1 of 1 convs are weighted_sum (folded)"
    assert report.rows[0].name == "(the network itself)"


def test_a_shared_conv_is_replaced_once_by_the_same_object() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1)
    block = nn.Sequential(shared, nn.ReLU(), shared)
    network, report = swap_convs(nn.ModuleDict({"a": block, "b": block, "c": shared}), WeightedSumConv2d)
    assert isinstance(network["c"], WeightedSumConv2d)
    assert network["a"][0] is network["a"][2] is network["b"][0] is network["c"]
    assert [(row.name, row.reason) for row in report.rows] == [("a.0", "shared with a.2, b.0, b.2, c")]


@pytest.mark.parametrize(
    ("skip", "skipped", "summary"),
    [
        ([], [], "3 of 3 convs are standard (library)"),
        (["first"], ["0"], "2 of 3 convs are standard (library); skipped: 0 (first)"),
        (["last"], ["2.1"], "2 of 3 convs are standard (library); skipped: 2.1 (last)"),
        (["1x1"], ["2.0"], "2 of 3 convs are standard (library); skipped: 2.0 (1x1)"),
        (["2.*"], ["2.0", "2.1"], "1 of 3 convs are standard (library); skipped: 2.0, 2.1 (2.*)"),
        (["first", "0"], ["0"], "2 of 3 convs are standard (library); skipped: 0 (first)"),
        (["*"], ["0", "2.0", "2.1"], "0 of 3 convs swapped; skipped: 0, 2.0, 2.1 (*)"),
    ],
)
def test_selectors_skip_the_matching_convs(skip: list[str], skipped: list[str], summary: str) -> None:
    network, report = swap_convs(small(), StandardConv2d, skip)
    assert [row.name for row in report.skipped] == skipped
    assert all(isinstance(network.get_submodule(name), nn.Conv2d) for name in skipped)
    assert all(isinstance(network.get_submodule(row.name), StandardConv2d) for row in report.swapped)
    assert report.summary() == summary


def test_a_long_list_of_skipped_convs_is_shortened() -> None:
    network = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(9)])
    _, report = swap_convs(network, StandardConv2d, ["[1-8]"])
    assert report.summary().endswith("5, 6 and 2 more ([1-8])")


@pytest.mark.parametrize("skip", [["layer9.*"], ["first", "3x3"]])
def test_the_error_for_a_selector_without_a_match_lists_the_names(skip: list[str]) -> None:
    facts = rf"'{re.escape(skip[-1])}' .*first, last, 1x1 .*0, 2\.0, 2\.1 \(conv\.skip\)$"
    with pytest.raises(UserError, match=facts):
        swap_convs(small(), StandardConv2d, skip)


def test_the_selectors_first_last_and_1x1_need_no_match() -> None:
    _, report = swap_convs(nn.Sequential(nn.Conv2d(1, 1, 3)), StandardConv2d, ["1x1"])
    assert report.summary() == "1 of 1 convs are standard (library)"


class RestrictedConv2d(StandardConv2d):
    """A convolution that supports neither 1x1 kernels nor a stride."""

    name = "restricted"

    def __init__(self, *conv2d: Any, **geometry: Any) -> None:
        super().__init__(*conv2d, **geometry)
        if self.kernel_size == (1, 1):
            self._refuse("takes no 1x1 kernels")
        if self.stride != (1, 1):
            self._refuse("needs stride 1")


def network_with_unsupported_layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 3, 2))


def test_refused_layers_are_kept_and_the_report_has_the_reason() -> None:
    network = network_with_unsupported_layers()
    before = [network[index] for index in (1, 2, 3)]
    network, report = swap_convs(network, RestrictedConv2d, unsupported="skip")
    assert [network[index] for index in (1, 2, 3)] == before
    assert [(row.name, row.status, row.reason) for row in report.rows] == [
        ("0", "swapped", ""),
        ("1", "skipped", "restricted takes no 1x1 kernels"),
        ("2", "skipped", "restricted needs stride 1"),
        ("3", "skipped", "restricted needs stride 1"),
    ]
    assert report.summary() == (
        "1 of 4 convs are restricted (library); "
        "skipped: 1 (restricted takes no 1x1 kernels), 2, 3 (restricted needs stride 1)"
    )


def test_a_refused_layer_is_an_error_with_its_name_and_the_key_unless_unsupported_is_skip() -> None:
    with pytest.raises(UserError, match=r"^layer 1: restricted takes no 1x1 kernels; .*conv.unsupported=skip"):
        swap_convs(network_with_unsupported_layers(), RestrictedConv2d)
    with pytest.raises(UserError, match=r"'ignore'; .*error or skip \(conv.unsupported\)$"):
        swap_convs(network_with_unsupported_layers(), RestrictedConv2d, unsupported="ignore")


def test_skip_must_be_a_list() -> None:
    with pytest.raises(UserError, match=r"'first'; .*\[first\] \(conv.skip\)$"):
        swap_convs(small(), StandardConv2d, "first")


def test_a_network_wrapped_for_data_parallel_training_is_refused() -> None:
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = small()
    with pytest.raises(UserError, match="DistributedDataParallel"):
        swap_convs(wrapped, StandardConv2d)


@pytest.mark.parametrize("conv_class", [StandardConv2d, FromScratchConv2d, Subclass])
def test_a_conv_with_the_same_parameters_copies_their_values(conv_class: type[nn.Module]) -> None:
    network = small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network, _ = swap_convs(network, conv_class, seed=5)
    assert type(network[0]) is conv_class
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_a_swap_does_not_change_the_global_random_state() -> None:
    network = small()
    state = torch.get_rng_state()
    swap_convs(network, DynamicConv2d)
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_values_depend_on_seed_and_name_only() -> None:
    def weight(seed: int = 0, skip: tuple[str, ...] = (), noise: int = 0) -> torch.Tensor:
        torch.manual_seed(noise)
        return swap_convs(small(), WeightedSumConv2d, skip, seed)[0][2][1].depthwise_weight

    assert torch.equal(weight(), weight(skip=("first", "1x1"), noise=9))
    assert not torch.equal(weight(), weight(seed=1))
    network, _ = swap_convs(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)), WeightedSumConv2d)
    assert not torch.equal(network[0].pointwise_weight, network[1].pointwise_weight)


def test_initial_values_do_not_change_from_release_to_release() -> None:
    network, _ = swap_convs(nn.Sequential(nn.Conv2d(1, 1, 1)), RandomParameter, seed=3)
    torch.manual_seed(int.from_bytes(SHA256_OF_3_0, "big"))
    assert torch.equal(network[0].value, torch.rand(2))


SHA256_OF_3_0 = bytes.fromhex("eab817087de37b4d")  # the first eight bytes of the digest of "3:0", seed and layer name


class RandomParameter(nn.Module):
    """A replacement whose parameter is its first two random numbers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.rand(2))


@pytest.mark.parametrize("conv_class", [StandardConv2d, WeightedSumConv2d, DynamicConv2d])
def test_dtype_training_mode_and_frozen_parameters_are_kept(conv_class: type[nn.Module]) -> None:
    network = small().double().eval()
    network[0].weight.requires_grad_(False)
    network, _ = swap_convs(network, conv_class)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network[0].parameters())
    assert all(parameter.requires_grad for parameter in network[2].parameters())


def test_a_meta_network_stays_on_meta() -> None:
    with torch.device("meta"):
        network = small()
    network, _ = swap_convs(network, DynamicConv2d)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


@pytest.mark.gpu
def test_initial_values_are_the_same_on_gpu_and_cpu() -> None:
    on_cpu, _ = swap_convs(small(), DynamicConv2d)
    state = torch.cuda.get_rng_state()
    on_gpu, _ = swap_convs(small().cuda(), DynamicConv2d)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert {tensor.device.type for tensor in on_gpu.state_dict().values()} == {"cuda"}
    torch.testing.assert_close(on_gpu.cpu().state_dict(), on_cpu.state_dict(), rtol=0, atol=0)


def test_an_error_of_the_factory_has_the_name_of_the_layer() -> None:
    def factory(*geometry: Any, **layer: Any) -> nn.Module:
        return StandardConv2d(*geometry, **{**layer, "groups": 3 if geometry[2] == (1, 1) else layer["groups"]})

    with pytest.raises(UserError, match=r"^layer 2\.0: .*groups 3 \(conv\.groups\)"):
        swap_convs(small(), factory)
