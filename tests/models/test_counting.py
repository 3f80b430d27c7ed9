from functools import partial

import pytest
import torch
from torch import nn

from convbench.convs.dynamic import DynamicConv2d
from convbench.convs.factory import conv_factory
from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.models.counting import Layer, summarise
from convbench.models.resnet import ResNet


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 10x10
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, (3, 1), stride=2, groups=4, bias=False),  # 4x5
        nn.MaxPool2d(2),  # 2x2
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


def test_the_summary_of_a_small_network_agrees_with_a_count_by_hand() -> None:
    summary = summarise(small_network(), in_channels=3, image_size=10)
    assert summary.layers == (
        Layer("0", "Conv2d", (8, 10, 10), (3, 3), 3 * 8 * 9 + 8, 8 * 10 * 10 * 3 * 9),
        Layer("1", "BatchNorm2d", (8, 10, 10), None, 16, 0),
        Layer("2", "ReLU", (8, 10, 10), None, 0, 0),
        Layer("3", "Conv2d", (8, 4, 5), (3, 1), 8 * 2 * 3, 8 * 4 * 5 * 2 * 3),
        Layer("4", "MaxPool2d", (8, 2, 2), (2, 2), 0, 0),
        Layer("6", "Flatten", (32,), None, 0, 0),
        Layer("7", "Linear", (5,), None, 32 * 5 + 5, 32 * 5),
    )
    assert summary.parameters == sum(layer.parameters for layer in summary.layers) == 224 + 16 + 48 + 165
    assert summary.macs == sum(layer.macs for layer in summary.layers) == 21_600 + 960 + 160


def test_layers_are_in_the_order_of_the_forward_pass() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(4, 2, 1)
            self.first = nn.Conv2d(1, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    assert [layer.name for layer in summarise(Reversed(), 1, 3).layers] == ["first", "second"]


def test_frozen_parameters_are_not_counted() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    summary = summarise(network, 3, 10)
    assert summary.layers[0].parameters == 0
    assert summary.parameters == 16 + 48 + 165
    assert summary.macs == 22_720


@pytest.mark.parametrize(
    "make",
    [
        partial(WeightedSumConv2d, 16, 24, 3, padding=1),
        partial(FromScratchConv2d, 16, 16, 2, groups=8),  # the largest weight that `fused` supports
        partial(DynamicConv2d, 16, 24, 3, padding=1),
    ],
    ids=["weighted_sum", "from_scratch", "dynamic"],
)
def test_the_macs_of_a_conv_do_not_depend_on_its_implementation(make: partial) -> None:
    implementations = make.func.implementations
    assert len(implementations) > 1
    convs = {implementation: make(implementation=implementation) for implementation in implementations}
    counted = {
        implementation: (summarise(conv, 16, 8).macs, [layer.macs for layer in summarise(conv, 16, 8).layers])
        for implementation, conv in convs.items()
    }
    assert len({str(macs) for macs in counted.values()}) == 1
    assert {conv.implementation for conv in convs.values()} == set(implementations)  # unchanged


def test_the_macs_of_convs_are_those_of_their_formulas() -> None:
    pixels = 8 * 8
    weighted = summarise(WeightedSumConv2d(16, 24, 3, padding=1, implementation="folded"), 16, 8)
    assert weighted.macs == pixels * (16 * 24 + 24 * 9)
    assert weighted.parameters == 16 * 24 + 24 * 9 + 24
    scratch = summarise(FromScratchConv2d(16, 24, 3, padding=1, implementation="fft"), 16, 8)
    assert scratch.macs == pixels * 16 * 24 * 9
    (row,) = scratch.layers
    assert (row.kind, row.kernel, row.output_shape) == ("FromScratchConv2d", (3, 3), (24, 8, 8))


def test_a_conv_made_of_layers_is_one_row() -> None:
    (row,) = summarise(DynamicConv2d(16, 24, 3, padding=1), 16, 8).layers
    # attention 16 -> 5 -> 4, mixing of four kernels and biases, one convolution
    assert row.macs == 16 * 5 + 5 * 4 + 4 * (16 * 24 * 9) + 4 * 24 + 64 * 16 * 24 * 9
    assert row.parameters == 16 * 5 + 5 * 4 + 4 + 4 * (16 * 24 * 9 + 24)


@torch.library.custom_op("convbench_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    """An operator that does not support meta tensors."""
    return 2 * x


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return doubled(self.part(x))


class ReportingDoubling(Doubling):
    def multiply_accumulates(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return 1000


def test_operators_without_a_count_are_reported_with_their_layers() -> None:
    summary = summarise(nn.Sequential(Doubling(), nn.ReLU(), Doubling()), 3, 4)
    assert summary.not_counted == {"convbench_tests::doubled": ("0", "2")}
    assert summary.uncounted == "convbench_tests::doubled in 2 layers"
    assert summary.macs == 2 * 16 * 9


def test_operations_that_a_module_reports_are_counted_and_its_operators_are_not_reported() -> None:
    summary = summarise(nn.Sequential(ReportingDoubling()), 3, 4)
    assert summary.not_counted == {}
    assert summary.macs == 1000 + 16 * 9


@pytest.mark.parametrize("operator", ["fft", "grid_sampler", "cdist"])
def test_operators_of_pytorch_without_a_flop_formula_are_reported(operator: str) -> None:
    class Using(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if operator == "fft":
                return torch.fft.rfft2(x).abs()
            if operator == "cdist":
                return torch.cdist(x, x)
            return nn.functional.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)

    (reported,) = summarise(Using(), 3, 4).not_counted
    assert operator in reported


def test_attention_is_counted_completely() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pixels = x.flatten(2).transpose(1, 2)
            return self.attention(pixels, pixels, pixels, need_weights=False)[0]

    summary = summarise(Attending(), 4, 4)
    assert summary.not_counted == {}
    assert summary.macs == 4 * 16 * 4 * 4 + 2 * 16 * 16 * 4  # four projections of 16 pixels; scores and weighted sums


def test_resnet18_with_224_pixel_images_has_1_81_billion_macs() -> None:
    with torch.device("meta"):
        network = ResNet(18, 1000, stem="7x7")
    summary = summarise(network, 3, 224)
    assert summary.parameters == 11_689_512
    assert summary.macs == pytest.approx(1.814e9, rel=1e-3)  # as torchvision publishes it
    convs = [layer for layer in summary.layers if layer.kind == "Conv2d"]
    assert (convs[0].name, convs[0].output_shape, convs[0].kernel) == ("conv1", (64, 112, 112), (7, 7))
    assert (convs[-1].name, convs[-1].output_shape) == ("layer4.1.conv2", (512, 7, 7))


def test_resnet18_with_weighted_sums_has_its_published_number_of_parameters() -> None:
    factory = conv_factory(WeightedSumConv2d, bias=True)
    with torch.device("meta"):
        network, _ = swap_convs(ResNet(18, 1000, stem="7x7"), factory)
    assert summarise(network, 3, 32).parameters == 1_958_824


def test_the_dog_cat_bird_network_with_weighted_sums_has_its_published_number_of_parameters() -> None:
    network, _ = swap_convs(ResNet(14, 3, stem="3x3_bias"), WeightedSumConv2d, skip=["first"])
    assert summarise(network, 3, 32).parameters == 27_363


def test_counting_does_not_change_the_network() -> None:
    network = small_network().train()
    network.append(nn.Dropout(0.5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    summarise(network, 3, 10)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
