"""The from-scratch functions beside the contract: as functions, at S4's kernels, and at their limits."""

import pytest
import torch
import torch.nn.functional as F

from convbench.convs.from_scratch import FromScratchConv2d, loops
from convbench.errors import UserError

FUNCTIONS = FromScratchConv2d.implementations
KERNELS = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "edge": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_published_kernels_on_each_colour_give_what_torch_gives(function: str, kernel: str) -> None:
    image = torch.rand(1, 3, 8, 9)
    weight = torch.tensor(KERNELS[kernel], dtype=torch.float32).expand(3, 1, 3, 3)
    ours = FUNCTIONS[function](image, weight, padding=1, groups=3)
    torch.testing.assert_close(ours, F.conv2d(image, weight, padding=1, groups=3), rtol=1e-5, atol=1e-5)


def test_loops_refuses_what_would_take_minutes_and_names_the_others() -> None:
    image, weight = torch.zeros(1, 3, 860, 1600), torch.zeros(3, 3, 3, 3)
    with pytest.raises(
        UserError,
        match=r"loops would take 111,456,000 multiplications .*\(1, 3, 862, 1602\).* only 200,000 are allowed; "
        r"choose roll, shift_matmul, im2col or fft \(conv.implementation\)",
    ):
        loops(image, weight, padding=1)


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "loops"])
def test_second_derivatives_are_right(function: str) -> None:
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *a: FUNCTIONS[function](*a, (2, 1), 1, 1, 2), (x, weight, bias))
