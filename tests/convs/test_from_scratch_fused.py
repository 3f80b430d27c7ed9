"""The compiled fused convolution, which the contract runs uncompiled, and the layers that it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.utils import counters

from convbench.convs.base import UnsupportedLayerError
from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.from_scratch_fused import fused
from convbench.convs.functional import Geometry
from convbench.errors import UserError


def gradients(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return torch.autograd.grad(y, inputs, weights)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("geometry", "dtype", "limit"),
    [
        ((1, 1, 1, 3), torch.float32, 1e-5),
        pytest.param((2, (1, 2), (2, 1), 1), torch.float32, 1e-5, marks=pytest.mark.slow),
        pytest.param((1, 1, 1, 3), torch.bfloat16, 1e-2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_compiled_results_are_those_of_torch_and_a_second_call_does_not_recompile(
    geometry: tuple[int, ...], dtype: torch.dtype, limit: float
) -> None:
    x = torch.randn(2, 3, 17, 23, dtype=dtype, requires_grad=True)
    weight = torch.randn(3, 3 // geometry[3], 3, 3, dtype=dtype, requires_grad=True)
    bias = torch.randn(3, dtype=dtype, requires_grad=True)
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    wanted = F.conv2d(*exact, *geometry)
    wanted_grads = gradients(wanted, *exact)
    before = counters["stats"]["unique_graphs"]
    for _ in range(2):
        y = fused(x, weight, bias, Geometry.of(*geometry))
        grads = gradients(y, x, weight, bias)
    assert counters["stats"]["unique_graphs"] - before == 3  # output, gradient of the input, gradient of the weight
    for actual, expected in zip((y, *grads), (wanted, *wanted_grads), strict=True):
        assert actual.dtype == dtype
        assert (actual.double() - expected).norm() / expected.norm() < limit


def test_the_layer_and_the_function_refuse_many_channels() -> None:
    facts = r"128 .*576; .*shift_matmul \(conv.implementation\)"
    with pytest.raises(UnsupportedLayerError, match=facts):
        FromScratchConv2d(8, 8, 3, implementation="fused")
    with pytest.raises(UserError, match=facts):
        fused(torch.zeros(1, 8, 5, 5), torch.zeros(8, 8, 3, 3))
