from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convbench.convs.condconv import CondConv2d
from convbench.convs.dynamic import DynamicConv2d
from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.mixing import MixedConv2d
from convbench.convs.odconv import ODConv2d
from convbench.convs.swap import swap_convs
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.diagnostics.inspection import dense_kernels, feature_maps, first_kernels, routing
from convbench.models.resnet import ResNet

EXPERTS = 4


class Scaled(nn.Conv2d):
    """A user's own convolution, whose kernels are not its parameters."""

    def forward(self, x):
        return F.conv2d(torch.cat([x[:, :1] * 3, x[:, 1:]], 1), self.weight, self.bias) + 1


class Chooser(MixedConv2d):
    """Each image takes the kernels that its mean brightness, a whole number from 0, names: two bits, two kernels."""

    name = "chooser"

    def __init__(self, *conv2d, **geometry):
        super().__init__(*conv2d, num_experts=EXPERTS, implementation="grouped", **geometry)
        self.reset_parameters()

    def routing_weights(self, x):
        bright = x.mean((1, 2, 3)).round().long()
        return F.one_hot(bright // EXPERTS, EXPERTS).float() + F.one_hot(bright % EXPERTS, EXPERTS).float()


def network(conv=None, **changes):
    """A trained-looking network: running statistics that are not fresh, training mode, gradients."""
    torch.manual_seed(0)
    made = ResNet(8, 10, widths=[4, 40, 8], dropout=0.3, **changes)
    if conv is not None:
        made, _ = swap_convs(made, conv)
    for _ in range(3):
        made(torch.randn(4, 3, 16, 16)).sum().backward()
    return made


def images(*brightness):
    return torch.tensor(brightness, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 8, 8)


# -- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 7, "stride": 2, "padding": 3, "bias": False},
        {"kernel_size": (3, 5), "stride": (3, 1), "padding": (0, 4), "dilation": (2, 3)},
        {"kernel_size": (2, 4), "padding": "same", "dilation": 2},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "padding": 2, "padding_mode": "circular"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 1},
        {"kernel_size": 1, "padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
@pytest.mark.parametrize("conv", [nn.Conv2d, FromScratchConv2d])
def test_the_kernels_of_a_convolution_are_read_off_exactly(conv, geometry):
    layer = conv(3, 5, **geometry).eval()
    torch.testing.assert_close(dense_kernels(layer), layer.weight.detach(), rtol=1e-5, atol=1e-6)


def test_grouped_kernels_are_dense_ones_with_zeros():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    kernels = dense_kernels(layer)
    torch.testing.assert_close(kernels[:3, :2], layer.weight[:3].detach())
    torch.testing.assert_close(kernels[3:, 2:], layer.weight[3:].detach())
    assert kernels[:3, 2:].abs().max() < 1e-6
    assert kernels[3:, :2].abs().max() < 1e-6


@pytest.mark.parametrize("implementation", WeightedSumConv2d.implementations)
def test_factors_are_shown_as_the_kernels_they_amount_to(implementation):
    layer = WeightedSumConv2d(3, 5, 3, padding=1, implementation=implementation)
    product = layer.pointwise_weight * layer.depthwise_weight
    torch.testing.assert_close(dense_kernels(layer), product.detach(), rtol=1e-5, atol=1e-6)


def test_a_convolution_of_any_class_is_read_off():
    layer = Scaled(3, 5, 3)
    layer.kernel_size, layer.stride, layer.dilation, layer.padding = 3, 1, 1, 0  # as it may keep them
    expected = layer.weight.detach() * torch.tensor([3.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(first_kernels(nn.Sequential(layer)), expected)


@pytest.mark.parametrize(
    "function",
    [lambda y: y.relu(), lambda y: y**2, lambda y: y * y.mean((1, 2, 3), keepdim=True)],
    ids=["clipped", "squared", "scaled by the image"],
)
def test_a_convolution_that_is_not_linear_has_no_kernels_to_show(function):
    class Bent(nn.Conv2d):
        def forward(self, x):
            return function(super().forward(x))

    assert dense_kernels(Bent(3, 5, 3)) is None


def test_the_first_kernels_are_those_of_the_first_convolution():
    made = network()
    torch.testing.assert_close(first_kernels(made), made.conv1.weight.detach(), rtol=1e-5, atol=1e-6)
    assert first_kernels(nn.Sequential(nn.Linear(3, 4), nn.MaxPool2d(2))) is None
    conv = nn.Conv2d(1, 2, 3)
    torch.testing.assert_close(first_kernels(conv), conv.weight.detach())
    upwards = nn.Sequential(nn.ConvTranspose2d(3, 3, 2), conv)
    torch.testing.assert_close(first_kernels(upwards), conv.weight.detach())


def test_the_first_kernels_are_those_of_evaluation():
    class Dropping(nn.Conv2d):
        def forward(self, x):
            return F.dropout(super().forward(x), training=self.training)

    layer = Dropping(3, 5, 3)
    torch.testing.assert_close(first_kernels(nn.Sequential(layer)), layer.weight.detach(), rtol=1e-5, atol=1e-6)
    assert layer.training


@pytest.mark.parametrize("conv", [DynamicConv2d, CondConv2d, ODConv2d])
def test_of_a_convolution_with_experts_all_are_shown_those_of_a_filter_side_by_side(conv):
    made = network(partial(conv, num_experts=EXPERTS))
    kernels = first_kernels(made)
    weight = made.conv1.weight.detach()
    assert kernels.shape == (4 * EXPERTS, 3, 3, 3)
    for filter_, expert in ((0, 0), (0, 3), (2, 1)):
        torch.testing.assert_close(kernels[filter_ * EXPERTS + expert].flatten(), weight[expert, filter_])


# -- feature maps -----------------------------------------------------------------------------------------------------


def test_each_spatial_size_is_shown_by_its_last_convolution():
    made = network()
    image = torch.randn(1, 3, 16, 16)
    maps = feature_maps(made, image, "none")
    assert [(name, tuple(of_layer.shape)) for name, of_layer in maps.items()] == [
        ("layer1.0.conv2", (4, 16, 16)),
        ("layer2.0.conv2", (32, 8, 8)),
        ("layer3.0.conv2", (8, 4, 4)),
    ]
    made.eval()
    with torch.no_grad():
        x = made.relu(made.bn1(made.conv1(image)))
        block = made.layer1[0]
        x = block.conv2(block.relu(block.bn1(block.conv1(x))))
    torch.testing.assert_close(maps["layer1.0.conv2"], x[0])


def test_the_names_of_the_maps_are_the_same_for_every_convolution():
    image = torch.randn(1, 3, 16, 16)
    names = [list(feature_maps(network(conv), image, "none")) for conv in (None, WeightedSumConv2d, DynamicConv2d)]
    assert names[0] == names[1] == names[2]


def test_a_map_is_what_the_convolution_gave_also_where_the_activation_works_in_place():
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    assert feature_maps(made, torch.randn(1, 3, 8, 8), "none")["0"].min() < 0


def test_the_parts_of_a_convolution_are_not_shown_by_themselves():
    class Halved(nn.Conv2d):
        def __init__(self, *conv2d):
            super().__init__(*conv2d)
            self.inner = nn.Conv2d(3, 3, 1, stride=2)

        def forward(self, x):
            return super().forward(F.interpolate(self.inner(x), x.shape[2:]))

    assert list(feature_maps(nn.Sequential(Halved(3, 2, 3)), torch.randn(1, 3, 16, 16), "none")) == ["0"]


@pytest.mark.parametrize(("side", "shown"), [(4, ["0", "2"]), (3, ["0"]), (1, ["0"])])
def test_a_few_pixels_are_no_picture(side, shown):
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(side), nn.Conv2d(4, 2, 1))
    assert list(feature_maps(made, torch.randn(1, 3, 8, 8), "none")) == shown


def test_maps_come_in_float32_from_a_run_in_bf16():
    made, image = network(), torch.randn(1, 3, 16, 16)
    exact, rounded = (feature_maps(made, image, precision)["layer3.0.conv2"] for precision in ("none", "bf16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)


# -- routing ----------------------------------------------------------------------------------------------------------


def test_images_that_take_one_kernel_each_have_no_entropy():
    layer = Chooser(3, 2, 3)
    (of_layer,) = routing(nn.Sequential(layer), [images(0, 5, 5), images(15)], "none").values()
    assert of_layer.entropy == pytest.approx(0)
    assert of_layer.top_shares == pytest.approx((0.25, 0.5, 0, 0.25))


def test_images_that_take_two_of_four_kernels_alike_have_half_the_entropy_also_where_shares_add_up_to_two():
    (of_layer,) = routing(nn.Sequential(Chooser(3, 2, 3)), [images(1, 6, 11)], "none").values()
    assert of_layer.entropy == pytest.approx(0.5)


def test_the_similarity_is_the_mean_cosine_between_two_kernels():
    layer = Chooser(3, 2, 3)
    with torch.no_grad():
        layer.weight.zero_()
        for expert, row in enumerate(([1, 0], [2, 0], [-1, 0], [0, 3])):
            layer.weight[expert, 0, :2] = torch.tensor(row)
    (of_layer,) = routing(nn.Sequential(layer), [images(0)], "none").values()
    assert of_layer.similarity == pytest.approx((1 - 1 - 1 + 0 + 0 + 0) / 6)


@pytest.mark.parametrize("precision", ["none", "bf16"])
def test_a_hot_softmax_takes_all_kernels_alike(precision):
    made = network(partial(DynamicConv2d, temperature=1e6))
    layers = routing(made, [torch.randn(8, 3, 16, 16)], precision)
    assert len(layers) == 9
    assert all(layer.entropy == pytest.approx(1, abs=1e-3) for layer in layers.values())
    assert all(sum(layer.top_shares) == pytest.approx(1) for layer in layers.values())


@pytest.mark.parametrize("conv", [DynamicConv2d, CondConv2d, ODConv2d])
def test_routing_is_measured_as_in_evaluation_layer_by_layer(conv):
    made = network(conv)
    batch = torch.randn(8, 3, 16, 16)
    layers = routing(made, [batch], "none")
    with torch.no_grad():
        shares = made.eval().conv1.routing_weights(batch)
        shares = shares / shares.sum(1, keepdim=True)
        entropy = torch.distributions.Categorical(shares).entropy().mean().item()
    experts = made.conv1.num_experts
    assert layers["conv1"].entropy == pytest.approx(entropy / torch.tensor(experts).log().item(), rel=1e-4)
    assert list(layers) == [name for name, module in made.named_modules() if isinstance(module, conv)]


def test_a_layer_that_no_image_reaches_is_left_out():
    class Idle(nn.Sequential):
        def forward(self, x):
            return x

    assert routing(Idle(DynamicConv2d(3, 2, 3)), [images(0)], "none") == {}


def test_a_network_without_per_image_convolutions_is_not_even_run():
    def no_batches():
        raise AssertionError
        yield

    assert routing(network(), no_batches(), "none") == {}
    assert routing(network(partial(DynamicConv2d, num_experts=1)), no_batches(), "none") == {}


# -- nothing changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conv", [None, DynamicConv2d, WeightedSumConv2d])
def test_a_look_changes_nothing(conv):
    made = network(conv)
    state = {name: value.clone() for name, value in made.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in made.parameters()]
    random = torch.get_rng_state()
    first_kernels(made)
    feature_maps(made, torch.ones(1, 3, 16, 16), "none")
    routing(made, [torch.ones(2, 3, 16, 16)], "none")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())
    assert all(map(torch.equal, (parameter.grad for parameter in made.parameters()), gradients))
    assert all(module.training for module in made.modules())
    assert not any(module._forward_hooks for module in made.modules())


def test_a_compiled_network_is_looked_into_without_compiling_again():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    made = nn.Sequential(DynamicConv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    batch = torch.randn(2, 3, 8, 8)
    made.compile(backend=backend)
    with torch.no_grad():
        made(batch)
        compiled = len(graphs)
        assert compiled > 0
        assert list(feature_maps(made, batch[:1], "none")) == ["0", "2"]
        assert list(routing(made, [batch], "none")) == ["0"]
        assert first_kernels(made) is not None
        with torch.compiler.set_stance("fail_on_recompile"):
            made(batch)
    assert len(graphs) == compiled
