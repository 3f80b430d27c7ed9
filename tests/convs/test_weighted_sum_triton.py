"""The Triton kernels of the weighted sum: correct in the interpreter, and compiled for a GPU that need not exist."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

# (N, C_in, C_out, H, W): fewer and more channels than in a block, mostly no powers of two; images of a single pixel.
LAYERS = [
    (2, 3, 5, 7, 6),
    (1, 20, 40, 9, 8),
    (2, 70, 33, 5, 5),
    (3, 16, 16, 4, 9),
    (1, 2, 2, 1, 1),
    (1, 130, 17, 3, 20),
]

# A separate process, because the interpreter has to be selected before the import of Triton. It prints the largest
# errors of the output and of the gradients of input, mix, kernel and bias, each relative to the largest expected value.
INTERPRETED = """
import json, sys
import torch
from convbench.convs.weighted_sum import WeightedSumConv2d

errors = []
for images, c_in, c_out, height, width in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    conv = WeightedSumConv2d(c_in, c_out, 3, padding=1, implementation="fused")
    x = torch.randn(images, c_in, height, width).requires_grad_()
    exact = WeightedSumConv2d(c_in, c_out, 3, padding=1, dtype=torch.float64)
    exact.load_state_dict(conv.state_dict())
    exact_x = x.detach().double().requires_grad_()
    y, wanted = conv(x), exact(exact_x)
    assert "weighted_sum" in type(y.grad_fn.next_functions[0][0]).__name__, y.grad_fn
    gradient = torch.randn_like(y)
    got = torch.autograd.grad(y, [x, *conv.parameters()], gradient)
    right = torch.autograd.grad(wanted, [exact_x, *exact.parameters()], gradient.double())
    pairs = zip([y, *got], [wanted, *right])
    errors.append([((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs])
print(json.dumps(errors))
"""


def interpreted(layers: list[tuple[int, ...]]) -> list[list[float]]:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, json.dumps(layers)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_output_and_gradients_equal_float64_in_the_interpreter() -> None:
    errors = interpreted(LAYERS)
    assert len(errors) == len(LAYERS)
    assert all(len(of_layer) == 5 and max(of_layer) < 1e-5 for of_layer in errors), errors


def test_without_a_gpu_fused_computes_as_pointwise() -> None:
    from convbench.convs.functional import Geometry
    from convbench.convs.weighted_sum import fused, pointwise

    padded = Geometry(padding=(1, 1))
    x, mix, kernel = torch.randn(2, 4, 5, 6), torch.randn(3, 4, 1, 1), torch.randn(3, 1, 3, 3)
    assert torch.equal(fused(x, mix, kernel, None, padded), pointwise(x, mix, kernel, None, padded))


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kernel", ["_forward", "_backward_x", "_backward_weights"])
def test_its_kernels_compile_for_hopper_within_the_shared_memory(kernel: str, dtype: str) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from convbench.convs import weighted_sum_triton as kernels

    function: Any = getattr(kernels, kernel)
    blocks = {"PRECISION": "tf32" if dtype == "fp32" else "ieee", "PIXELS": 64, "OUT": 32, "IN": 32, "ROWS": 8}
    constants = {name: blocks[name] for name in function.arg_names if name in blocks}
    pointers = {name: f"*{dtype}" for name in ("x", "mix", "kernel", "y", "gradient", "gradient_x")}
    pointers |= {"gradient_mix": "*fp32", "gradient_kernel": "*fp32"}
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in function.arg_names}
    positions = {name: (index,) for index, name in enumerate(function.arg_names)}
    compiled = compile(
        ASTSource(function, signature, {positions[name]: value for name, value in constants.items()}),
        target=GPUTarget("cuda", 90, 32),
        options={"num_stages": 1, "num_warps": 8, "enable_fp_fusion": True},
    )
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 227 * 1024
