"""Measure the times in docs/from_scratch.md: `python scripts/from_scratch_walk.py`.

Every implementation runs on one image of 860 x 1600 pixels. Each round runs all implementations once, so that other
load on the machine affects all of them alike; the tables show medians. The implementation `loops` runs on a small
image, and its time is extrapolated. With `--write` the script measures nothing, and writes the page from
docs/from_scratch.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pages import markdown_table, write_section
from torch import Tensor

from convbench.convs.from_scratch import FromScratchConv2d
from convbench.convs.from_scratch_transposed import FromScratchConvTranspose2d, TransposedGeometry
from convbench.convs.functional import Geometry
from convbench.convs.winograd import winograd
from convbench.engine.device import describe_device
from convbench.files import to_json

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "from_scratch.json"
PAGE = ROOT / "docs" / "from_scratch.md"

IMAGE, SMALL = (860, 1600), (16, 20)  # height and width of the image, and of the small one for the loops
STRIDE_1: dict[str, Any] = {"padding": 1}
STRIDE_2: dict[str, Any] = {"padding": 1, "stride": 2}
# Groups and shape of the weight. With three channels, the shape is the same for a transposed convolution.
KERNELS = {"each colour": (3, (3, 1, 3, 3)), "dense": (1, (3, 3, 3, 3))}
# The function of PyTorch, our implementations, the arguments, and the factor by which the input is smaller than IMAGE.
OPERATIONS: dict[str, tuple[Callable[..., Tensor], Mapping[str, Callable[..., Tensor]], dict[str, Any], int]] = {
    "Convolution": (F.conv2d, {**FromScratchConv2d.implementations, "winograd": winograd}, STRIDE_1, 1),
    "Convolution, stride 2": (F.conv2d, FromScratchConv2d.implementations, STRIDE_2, 1),
    "Transposed convolution, stride 2": (
        F.conv_transpose2d,
        FromScratchConvTranspose2d.implementations,
        STRIDE_2 | {"output_padding": 1},
        2,
    ),
}
TRAINED = "Convolution, forward and backward"
# "Unboxing the blackbox: convolutions" (S4): each colour by itself, on the machine of its author
PUBLISHED = {"conv2d": "0.423 ms (0.4 to 1.2)", "shift_matmul": "0.769 ms", "loops": "1230 s"}


def calls(operation: str, kernel: str, size: tuple[int, int]) -> dict[str, Callable[[], Tensor]]:
    """The functions to time, by the name of their row in the table.

    Args:
        operation: name in `OPERATIONS`, or `TRAINED`.
        kernel: name in `KERNELS`.
        size: height and width of the larger one of input and output.
    """
    library, ours, arguments, upscaling = OPERATIONS["Convolution" if operation == TRAINED else operation]
    groups, shape = KERNELS[kernel]
    call = trained if operation == TRAINED else partial
    geometry_type = TransposedGeometry if library is F.conv_transpose2d else Geometry
    torch.manual_seed(0)
    x, weight = torch.rand(1, 3, size[0] // upscaling, size[1] // upscaling), torch.randn(shape)
    rows: dict[str, Callable[[], Tensor]] = {
        f"F.{library.__name__}": call(library, x, weight, groups=groups, **arguments),
        f"F.{library.__name__}, channels_last": call(
            library,
            x.to(memory_format=torch.channels_last),
            weight.to(memory_format=torch.channels_last),
            groups=groups,
            **arguments,
        ),
    }
    for name, function in ours.items():
        rows[name] = call(function, x, weight, geometry=geometry_type.of(groups=groups, **arguments))
    return rows


def trained(function: Callable[..., Tensor], x: Tensor, weight: Tensor, **arguments: Any) -> Callable[[], Tensor]:
    """A function that runs the forward and the backward pass, and returns the gradient of the image."""
    inputs = x.detach().requires_grad_(), weight.detach().requires_grad_()

    def forward_backward() -> Tensor:
        with torch.enable_grad():
            y = function(*inputs, **arguments)
        return torch.autograd.grad(y, inputs, y.detach())[0]

    return forward_backward


def seconds(call: Callable[[], Tensor]) -> float:
    """The time of one call, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def loops_seconds(operation: str, kernel: str, rounds: int) -> float:
    """The time of the implementation `loops`, in seconds, extrapolated from the small image by the number of pixels."""
    loops = calls(operation, kernel, SMALL)["loops"]
    pixels = IMAGE[0] * IMAGE[1] / (SMALL[0] * SMALL[1])
    return pixels * statistics.median(seconds(loops) for _ in range(rounds))


@torch.no_grad()
def measure(rounds: int) -> None:
    """Check and time all implementations, and write the medians to docs/from_scratch.json."""
    operations = [*OPERATIONS, TRAINED]
    cases = {(operation, kernel): calls(operation, kernel, IMAGE) for operation in operations for kernel in KERNELS}
    for rows in cases.values():
        del rows["loops"]
        expected, *results = [call() for call in rows.values()]  # these calls are the warm-up, too
        for actual in results:
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    times: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(rounds):
        for case, rows in cases.items():
            for name, call in rows.items():
                times.setdefault((*case, name), []).append(seconds(call))
    medians: dict[str, dict[str, dict[str, float]]] = {
        operation: {kernel: {"loops": loops_seconds(operation, kernel, min(rounds, 3))} for kernel in KERNELS}
        for operation in OPERATIONS
    }
    for (operation, kernel, name), values in times.items():
        medians.setdefault(operation, {}).setdefault(kernel, {})[name] = statistics.median(values)
    measured = {
        "device": describe_device(torch.device("cpu")),
        "torch": torch.__version__,
        "rounds": rounds,
        "seconds": medians,
    }
    MEASURED.write_text(to_json(measured, indent=1) + "\n")


def formatted(value: float, name: str) -> str:
    """A time with its unit; the time of the loops is extrapolated, and therefore approximate."""
    return f"about {value:,.0f} s" if name == "loops" else f"{1000 * value:.1f} ms"


def table() -> list[str]:
    """The tables and their notes: PyTorch first, then the loops, then the other implementations, fastest first."""
    measured = json.loads(MEASURED.read_text())
    lines = []
    for operation, kernels in measured["seconds"].items():
        published = operation == "Convolution"
        each, dense = kernels["each colour"], kernels["dense"]
        rows = []
        for name in sorted(each, key=lambda name: (not name.startswith("F."), name != "loops" and each[name])):
            cells = [f"`{name}`", formatted(each[name], name), formatted(dense[name], name)]
            rows.append([*cells, PUBLISHED.get(name.removeprefix("F."), "")] if published else cells)
        head = [operation, "each colour by itself", "3 to 3 channels"]
        lines += markdown_table([*head, "published, each colour"] if published else head, rows)
        lines.append("")
    height, width = IMAGE
    return [
        *lines,
        f"One image of {height} x {width} pixels and 3 channels (of a transposed convolution, this is the size of the",
        "output), 3x3 kernels, float32, forward pass only unless stated otherwise; medians of "
        f"{measured['rounds']} interleaved rounds on",
        f"{measured['device']}, torch {measured['torch']}.",
        f"The time of the loops is extrapolated from an image of {SMALL[0]} x {SMALL[1]} pixels by the number of",
        "multiplications.",
        'Published: "Unboxing the blackbox: convolutions", on the machine of its author, with stride 1.',
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="number of runs of each implementation")
    parser.add_argument("--write", action="store_true", help="measure nothing; only write the page")
    options = parser.parse_args()
    if not options.write:
        measure(options.rounds)
    write_section(PAGE, "times", Path(__file__).name, table())
