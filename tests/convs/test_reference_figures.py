"""Every implementation of the standard convolution reproduces the numbers that the sources print.

S2 is the CNN lecture notebook (Dive into Deep Learning, chapters 7 and 8), S4 "Unboxing the blackbox: convolutions".
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.functional import PLAIN, Geometry
from convbench.convs.standard import StandardConv2d
from convbench.convs.winograd import winograd

CASES = [
    *[("standard", name) for name in StandardConv2d.implementations],
    *[("from_scratch", name) for name in FromScratchConv2d.implementations],
]
CLASSES = {"standard": StandardConv2d, "from_scratch": FromScratchConv2d}
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **StandardConv2d.implementations,
    **FromScratchConv2d.implementations,
    "winograd": winograd,
}
# The kernels of S2 are 2x2, 1x1 and 1x2, which winograd does not support.
every_function = pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "winograd"])
every_layer = pytest.mark.parametrize(("conv", "implementation"), [case for case in CASES if case[1] != "winograd"])

X, K = torch.arange(9.0).reshape(3, 3), torch.arange(4.0).reshape(2, 2)


def make(conv: str, implementation: str, *arguments: object, **others: object) -> nn.Module:
    return CLASSES[conv](*arguments, **others, implementation=implementation)


@every_function
def test_s2_one_channel(function: str) -> None:
    y = FUNCTIONS[function](X[None, None], K[None, None], None, PLAIN)
    torch.testing.assert_close(y[0], torch.tensor([[[19.0, 25], [37, 43]]]))


@every_function
def test_s2_two_input_channels_are_summed(function: str) -> None:
    y = FUNCTIONS[function](torch.stack((X, X + 1))[None], torch.stack((K, K + 1))[None], None, PLAIN)
    torch.testing.assert_close(y[0], torch.tensor([[[56.0, 72], [104, 120]]]))


@every_function
def test_s2_three_output_channels_are_stacked(function: str) -> None:
    kernels = torch.stack([torch.stack((K + o, K + 1 + o)) for o in range(3)])
    y = FUNCTIONS[function](torch.stack((X, X + 1))[None], kernels, None, PLAIN)
    torch.testing.assert_close(
        y[0], torch.tensor([[[56.0, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]])
    )


@every_function
def test_s2_a_1x1_convolution_is_a_matrix_product_over_channels(function: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 3, 3), torch.randn(2, 3, 1, 1)
    y = FUNCTIONS[function](x[None], weight, None, PLAIN)[0]
    torch.testing.assert_close(y, (weight[:, :, 0, 0] @ x.flatten(1)).unflatten(1, (3, 3)))


@every_layer
def test_s2_gradient_descent_finds_the_edge_kernel_from_any_initial_value(conv: str, implementation: str) -> None:
    """S2 prints [0.98, -1.01] and a loss of 0.013 after ten steps for one seed; every seed comes as close to [1, -1].

    The loss is quadratic, e^T H e with e = weight - [1, -1] and H = 6 [[3, 2], [2, 3]], because each of the six lines
    has the patches (1, 1) twice, (1, 0) and (0, 1). A step with learning rate 0.03 multiplies e by
    1 - 0.06 * 30 = -0.8 along [1, 1] and by 1 - 0.06 * 6 = 0.64 along [1, -1]. The absolute values of the initial
    weights are at most 1/sqrt(2), so the initial e is at most 1 and 1 + sqrt(2) along these directions. After ten
    steps, the error of each weight is at most 0.096.
    """
    image = torch.ones(1, 1, 6, 8)
    image[..., 2:6] = 0
    wanted = FUNCTIONS["library"](image, torch.tensor([[[[1.0, -1.0]]]]), None, PLAIN)
    bound = (0.8**10 + (1 + 2**0.5) * 0.64**10) / 2**0.5
    for seed in range(5):
        torch.manual_seed(seed)
        layer = make(conv, implementation, 1, 1, (1, 2), bias=False)
        losses = []
        for _ in range(10):
            loss = ((layer(image) - wanted) ** 2).sum()
            (gradient,) = torch.autograd.grad(loss, layer.weight)
            layer.weight.data -= 3e-2 * gradient
            losses.append(loss.item())
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 30 * 0.8**18 + 6 * (1 + 2**0.5) ** 2 * 0.64**18
        assert (layer.weight.flatten() - torch.tensor([1.0, -1.0])).abs().max() < bound + 1e-5


@pytest.mark.parametrize(
    ("kernel", "padding", "stride", "size"),
    [
        ((3, 3), (1, 1), (1, 1), (8, 8)),
        ((5, 3), (2, 1), (1, 1), (8, 8)),
        ((3, 3), (1, 1), (2, 2), (4, 4)),
        ((3, 5), (0, 1), (3, 4), (2, 2)),
    ],
)
@every_layer
def test_s2_output_sizes_follow_the_rule_with_the_padding_of_both_sides(
    conv: str,
    implementation: str,
    kernel: tuple[int, int],
    padding: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """The rule of S2 is floor((n - k + p + s) / s), where p is the padding of both sides; `padding` is that of one."""
    by_rule = tuple((8 - k + 2 * p + s) // s for k, p, s in zip(kernel, padding, stride, strict=True))
    layer, theirs = make(conv, implementation, 1, 1, kernel, stride, padding), nn.Conv2d(1, 1, kernel, stride, padding)
    x = torch.zeros(1, 1, 8, 8)
    assert layer(x).shape[2:] == theirs(x).shape[2:] == by_rule == size
    assert Geometry(stride, padding).output_size((8, 8), kernel) == size


@every_layer
def test_s4_the_difference_from_conv2d_with_the_same_weights_is_as_small_as_published(
    conv: str, implementation: str
) -> None:
    """S4 prints a summed difference of 4.4e-07 for an unspecified input.

    This test requires this limit for the mean difference in float32, and for the sum of 2,028 differences in float64.
    """
    torch.manual_seed(0)
    x, theirs, ours = torch.rand(1, 1, 28, 28), nn.Conv2d(1, 3, 3), make(conv, implementation, 1, 3, 3)
    ours.load_state_dict(theirs.state_dict())
    assert (ours(x) - theirs(x)).abs().mean() <= 4.4e-7
    assert (ours.double()(x.double()) - theirs.double()(x.double())).abs().sum() <= 4.4e-7
    other = nn.Conv2d(1, 3, 3).double()
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other(x.double()), theirs(x.double()))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_s4_the_named_kernels_compute_their_formulas_for_each_colour(function: str) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8, 9)
    centre, north, south = image[..., 1:-1, 1:-1], image[..., :-2, 1:-1], image[..., 2:, 1:-1]
    west, east = image[..., 1:-1, :-2], image[..., 1:-1, 2:]
    north_west, south_east = image[..., :-2, :-2], image[..., 2:, 2:]
    edge = north + south + west + east - 4 * centre
    kernels = {
        "identity": ([[0, 0, 0], [0, 1, 0], [0, 0, 0]], centre),
        "emboss": (
            [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
            centre + (east - west) + (south - north) + 2 * (south_east - north_west),
        ),
        "sharpen": ([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], centre - edge),
        "edge": ([[0, 1, 0], [1, -4, 1], [0, 1, 0]], edge),
    }
    results = {
        name: FUNCTIONS[function](
            image, torch.tensor(kernel, dtype=torch.float32).expand(3, 1, 3, 3), None, Geometry(groups=3)
        )
        for name, (kernel, _) in kernels.items()
    }
    wanted = {name: value for name, (_, value) in kernels.items()}
    torch.testing.assert_close(results, wanted, rtol=1e-5, atol=1e-5)
