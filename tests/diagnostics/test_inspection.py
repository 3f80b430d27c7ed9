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
    """A custom convolution whose kernels differ from its parameters."""

    def forward(self, x):
        return F.conv2d(torch.cat([x[:, :1] * 3, x[:, 1:]], 1), self.weight, self.bias) + 1


class Chooser(MixedConv2d):
    """A per-image convolution that adds up two kernels, chosen by brightness // EXPERTS and brightness % EXPERTS."""

    name = "chooser"

    def __init__(self, *conv2d, **geometry):
        super().__init__(*conv2d, num_experts=EXPERTS, implementation="grouped", **geometry)
        self.reset_parameters()

    def routing_weights(self, x):
        bright = x.mean((1, 2, 3)).round().long()
        return F.one_hot(bright // EXPERTS, EXPERTS).float() + F.one_hot(bright % EXPERTS, EXPERTS).float()


def network(conv=None, **changes):
    """A network in training mode, with gradients and running statistics that differ from their initial values."""
    torch.manual_seed(0)
    net = ResNet(8, 10, widths=[4, 40, 8], dropout=0.3, **changes)
    if conv is not None:
        net, _ = swap_convs(net, conv)
    for _ in range(3):
        net(torch.randn(4, 3, 16, 16)).sum().backward()
    return net


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
def test_dense_kernels_are_the_weights_of_a_convolution(conv, geometry):
    layer = conv(3, 5, **geometry).eval()
    torch.testing.assert_close(dense_kernels(layer), layer.weight.detach(), rtol=1e-5, atol=1e-6)


def test_dense_kernels_of_a_grouped_convolution_contain_zeros():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    kernels = dense_kernels(layer)
    torch.testing.assert_close(kernels[:3, :2], layer.weight[:3].detach())
    torch.testing.assert_close(kernels[3:, 2:], layer.weight[3:].detach())
    assert kernels[:3, 2:].abs().max() < 1e-6
    assert kernels[3:, :2].abs().max() < 1e-6


@pytest.mark.parametrize("implementation", WeightedSumConv2d.implementations)
def test_dense_kernels_of_a_factored_convolution_are_the_product_of_its_factors(implementation):
    layer = WeightedSumConv2d(3, 5, 3, padding=1, implementation=implementation)
    product = layer.pointwise_weight * layer.depthwise_weight
    torch.testing.assert_close(dense_kernels(layer), product.detach(), rtol=1e-5, atol=1e-6)


def test_the_kernels_of_a_convolution_of_any_class_are_found():
    layer = Scaled(3, 5, 3)
    layer.kernel_size, layer.stride, layer.dilation, layer.padding = 3, 1, 1, 0  # as another class may store them
    expected = layer.weight.detach() * torch.tensor([3.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(first_kernels(nn.Sequential(layer)), expected)


@pytest.mark.parametrize(
    "function",
    [lambda y: y.relu(), lambda y: y**2, lambda y: y * y.mean((1, 2, 3), keepdim=True)],
    ids=["relu", "square", "scaled by the mean"],
)
def test_a_nonlinear_convolution_has_no_dense_kernels(function):
    class Nonlinear(nn.Conv2d):
        def forward(self, x):
            return function(super().forward(x))

    assert dense_kernels(Nonlinear(3, 5, 3)) is None


def test_the_first_kernels_are_those_of_the_first_convolution():
    net = network()
    torch.testing.assert_close(first_kernels(net), net.conv1.weight.detach(), rtol=1e-5, atol=1e-6)
    assert first_kernels(nn.Sequential(nn.Linear(3, 4), nn.MaxPool2d(2))) is None
    conv = nn.Conv2d(1, 2, 3)
    torch.testing.assert_close(first_kernels(conv), conv.weight.detach())
    after_transposed = nn.Sequential(nn.ConvTranspose2d(3, 3, 2), conv)
    torch.testing.assert_close(first_kernels(after_transposed), conv.weight.detach())


def test_the_first_kernels_are_computed_in_evaluation_mode():
    class WithDropout(nn.Conv2d):
        def forward(self, x):
            return F.dropout(super().forward(x), training=self.training)

    layer = WithDropout(3, 5, 3)
    torch.testing.assert_close(first_kernels(nn.Sequential(layer)), layer.weight.detach(), rtol=1e-5, atol=1e-6)
    assert layer.training


@pytest.mark.parametrize("conv", [DynamicConv2d, CondConv2d, ODConv2d])
def test_the_first_kernels_of_a_per_image_convolution_are_those_of_all_its_experts(conv):
    net = network(partial(conv, num_experts=EXPERTS))
    kernels = first_kernels(net)
    weight = net.conv1.weight.detach()
    assert kernels.shape == (4 * EXPERTS, 3, 3, 3)
    for filter_, expert in ((0, 0), (0, 3), (2, 1)):
        torch.testing.assert_close(kernels[filter_ * EXPERTS + expert].flatten(), weight[expert, filter_])


# -- feature maps -----------------------------------------------------------------------------------------------------


def test_feature_maps_contain_the_last_convolution_of_each_spatial_size():
    net = network()
    image = torch.randn(1, 3, 16, 16)
    maps = feature_maps(net, image, "none")
    assert [(name, tuple(layer_maps.shape)) for name, layer_maps in maps.items()] == [
        ("layer1.0.conv2", (4, 16, 16)),
        ("layer2.0.conv2", (32, 8, 8)),
        ("layer3.0.conv2", (8, 4, 4)),
    ]
    net.eval()
    with torch.no_grad():
        x = net.relu(net.bn1(net.conv1(image)))
        block = net.layer1[0]
        x = block.conv2(block.relu(block.bn1(block.conv1(x))))
    torch.testing.assert_close(maps["layer1.0.conv2"], x[0])


def test_the_names_of_the_feature_maps_are_the_same_for_every_type_of_convolution():
    image = torch.randn(1, 3, 16, 16)
    names = [list(feature_maps(network(conv), image, "none")) for conv in (None, WeightedSumConv2d, DynamicConv2d)]
    assert names[0] == names[1] == names[2]


def test_an_activation_that_works_in_place_does_not_change_the_feature_maps():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    assert feature_maps(net, torch.randn(1, 3, 8, 8), "none")["0"].min() < 0


def test_a_convolution_inside_of_another_one_has_no_feature_maps():
    class Nested(nn.Conv2d):
        def __init__(self, *conv2d):
            super().__init__(*conv2d)
            self.inner = nn.Conv2d(3, 3, 1, stride=2)

        def forward(self, x):
            return super().forward(F.interpolate(self.inner(x), x.shape[2:]))

    assert list(feature_maps(nn.Sequential(Nested(3, 2, 3)), torch.randn(1, 3, 16, 16), "none")) == ["0"]


@pytest.mark.parametrize(("side", "names"), [(4, ["0", "2"]), (3, ["0"]), (1, ["0"])])
def test_feature_maps_below_the_minimum_size_are_omitted(side, names):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(side), nn.Conv2d(4, 2, 1))
    assert list(feature_maps(net, torch.randn(1, 3, 8, 8), "none")) == names


def test_feature_maps_computed_in_bf16_are_returned_as_float32():
    net, image = network(), torch.randn(1, 3, 16, 16)
    exact, rounded = (feature_maps(net, image, precision)["layer3.0.conv2"] for precision in ("none", "bf16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)


# -- routing ----------------------------------------------------------------------------------------------------------


def test_the_entropy_is_zero_if_each_image_uses_one_kernel():
    layer = Chooser(3, 2, 3)
    (layer_routing,) = routing(nn.Sequential(layer), [images(0, 5, 5), images(15)], "none").values()
    assert layer_routing.entropy == pytest.approx(0)
    assert layer_routing.top_shares == pytest.approx((0.25, 0.5, 0, 0.25))


def test_the_entropy_of_two_equal_weights_out_of_four_is_one_half_even_if_they_sum_to_two():
    (layer_routing,) = routing(nn.Sequential(Chooser(3, 2, 3)), [images(1, 6, 11)], "none").values()
    assert layer_routing.entropy == pytest.approx(0.5)


def test_the_similarity_is_the_mean_cosine_similarity_between_two_kernels():
    layer = Chooser(3, 2, 3)
    with torch.no_grad():
        layer.weight.zero_()
        for expert, row in enumerate(([1, 0], [2, 0], [-1, 0], [0, 3])):
            layer.weight[expert, 0, :2] = torch.tensor(row)
    (layer_routing,) = routing(nn.Sequential(layer), [images(0)], "none").values()
    assert layer_routing.similarity == pytest.approx((1 - 1 - 1 + 0 + 0 + 0) / 6)


@pytest.mark.parametrize("precision", ["none", "bf16"])
def test_the_entropy_is_one_at_a_very_high_temperature(precision):
    net = network(partial(DynamicConv2d, temperature=1e6))
    layers = routing(net, [torch.randn(8, 3, 16, 16)], precision)
    assert len(layers) == 9
    assert all(layer.entropy == pytest.approx(1, abs=1e-3) for layer in layers.values())
    assert all(sum(layer.top_shares) == pytest.approx(1) for layer in layers.values())


@pytest.mark.parametrize("conv", [DynamicConv2d, CondConv2d, ODConv2d])
def test_routing_statistics_are_computed_for_each_layer_in_evaluation_mode(conv):
    net = network(conv)
    batch = torch.randn(8, 3, 16, 16)
    layers = routing(net, [batch], "none")
    with torch.no_grad():
        shares = net.eval().conv1.routing_weights(batch)
        shares = shares / shares.sum(1, keepdim=True)
        entropy = torch.distributions.Categorical(shares).entropy().mean().item()
    experts = net.conv1.num_experts
    assert layers["conv1"].entropy == pytest.approx(entropy / torch.tensor(experts).log().item(), rel=1e-4)
    assert list(layers) == [name for name, module in net.named_modules() if isinstance(module, conv)]


def test_a_layer_that_the_forward_pass_does_not_call_is_omitted():
    class Bypassed(nn.Sequential):
        def forward(self, x):
            return x

    assert routing(Bypassed(DynamicConv2d(3, 2, 3)), [images(0)], "none") == {}


def test_a_network_without_per_image_convolutions_is_not_run():
    def no_batches():
        raise AssertionError
        yield

    assert routing(network(), no_batches(), "none") == {}
    assert routing(network(partial(DynamicConv2d, num_experts=1)), no_batches(), "none") == {}


# -- no side effects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conv", [None, DynamicConv2d, WeightedSumConv2d])
def test_inspection_does_not_change_the_network_or_the_random_numbers(conv):
    net = network(conv)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    random = torch.get_rng_state()
    first_kernels(net)
    feature_maps(net, torch.ones(1, 3, 16, 16), "none")
    routing(net, [torch.ones(2, 3, 16, 16)], "none")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(map(torch.equal, (parameter.grad for parameter in net.parameters()), gradients))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())


def test_inspection_does_not_recompile_a_compiled_network():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    net = nn.Sequential(DynamicConv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    batch = torch.randn(2, 3, 8, 8)
    net.compile(backend=backend)
    with torch.no_grad():
        net(batch)
        compiled = len(graphs)
        assert compiled > 0
        assert list(feature_maps(net, batch[:1], "none")) == ["0", "2"]
        assert list(routing(net, [batch], "none")) == ["0"]
        assert first_kernels(net) is not None
        with torch.compiler.set_stance("fail_on_recompile"):
            net(batch)
    assert len(graphs) == compiled
