"""Run all checks and measurements on the GPU of this machine: `python scripts/gpu_report.py DATA`.

DATA is a folder with the image data sets `dog_cat_bird` and `cifar10`, unpacked. The script takes less than eight
minutes, and needs no network access and no packages other than the dependencies of the project. It writes
benchmarks/DEVICE.json and benchmarks/DEVICE.md. Without a GPU it runs on the CPU. With `--small`, it measures only a
few steps of a small network, which takes minutes on a CPU.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose as compose_config
from hydra import initialize_config_dir
from pages import markdown_table
from torch import Tensor
from torch._dynamo.utils import counters

from convbench.config.options import conf_folder, options
from convbench.config.resolvers import register_resolvers
from convbench.convs.weighted_sum import WeightedSumConv2d
from convbench.engine.device import describe_device
from convbench.experiment.composition import compose
from convbench.experiment.training import Training, build_training
from convbench.files import to_json

ROOT = Path(__file__).resolve().parent.parent
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TINY = ("data=shapes", "data.train=512", "data.val=64", "data.test=64", "model.depth=8", "batch_size=64", "epochs=4")
EAGER = "engine.compile=false"


# -- checks ---------------------------------------------------------------------------------------------------------


def training(*overrides: str) -> Training:
    """A small training run on the device."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose_config("train", [*TINY, *overrides])
    composition = compose(config)
    return build_training(config, composition, composition.source.load())


def losses(built: Training, epochs: int = 2) -> Tensor:
    """The mean training losses of the first `epochs` epochs, shape `(epochs,)`."""
    found = []
    for epoch in range(epochs):
        built.step.meter.reset()
        for index, batch in enumerate(built.train.epoch(epoch)):
            built.step(epoch * len(built.train) + index, *batch)
        found.append(built.step.meter.read().loss)
    return torch.tensor(found)


def no_step_waits_for_the_device() -> str:
    """Train with every convolution while CUDA raises an error at each synchronisation."""
    names = options("conv")
    for conv in names:
        built = training(
            f"conv={conv}", EAGER, *(["conv.implementation=shift_matmul"] if conv == "from_scratch" else [])
        )
        losses(built, 1)  # the initialisation in the first epoch may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            for index, batch in enumerate(built.train.epoch(1)):
                built.step(len(built.train) + index, *batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return f"{len(names)} convolutions"


def compiled_losses_equal_eager_losses() -> str:
    """Compare compiled and eager training with two convolutions; losses differ by rounding errors only."""
    error = 0.0
    for conv in ("weighted_sum", "dynamic"):
        eager, compiled = (losses(training(f"conv={conv}", f"engine.compile={value}")) for value in ("false", "true"))
        error = max(error, ((eager - compiled).abs() / eager).max().item())
    assert error < 0.02, error
    return f"relative error {error:.1e}"


def cuda_graph_losses_equal_eager_losses() -> str:
    """Compare training with and without a CUDA graph.

    In one run, the learning rate and the temperature change in every step; in the other one, gradients are scaled.
    """
    error = 0.0
    for overrides in (("conv=dynamic", "temperature.epochs=4"), ("conv=weighted_sum", "engine.autocast=fp16")):
        eager, graph = (
            losses(training(EAGER, f"engine.cuda_graph={value}", *overrides)) for value in ("false", "true")
        )
        error = max(error, ((eager - graph).abs() / eager).max().item())
    assert error < 0.02, error
    return f"relative error {error:.1e}"


def a_changing_temperature_causes_no_recompilation() -> str:
    """Count compiled graphs while the temperature of dynamic convolutions falls in every step."""
    torch.compiler.reset()
    built = training("conv=dynamic", "engine.compile=true", "temperature.epochs=4")
    losses(built, 1)
    before = counters["stats"]["unique_graphs"]
    losses(built, 3)
    assert counters["stats"]["unique_graphs"] == before, "the network was compiled again"
    return f"{before} graph"


def mixed_precision_losses_are_close_to_float32_losses() -> str:
    """Compare bfloat16, and on a GPU float16, with float32."""
    float32, error = losses(training(EAGER)), 0.0
    for precision in ("bf16", "fp16") if DEVICE.type == "cuda" else ("bf16",):
        mixed = losses(training(f"engine.autocast={precision}", EAGER))
        error = max(error, ((float32 - mixed).abs() / float32).max().item())
    assert error < 0.1, error
    return f"relative error {error:.1e}"


def prefetched_images_give_the_same_losses() -> str:
    """Compare images on the device with images in host memory, which a separate CUDA stream prefetches."""
    on_device, prefetched = (losses(training(f"engine.images={where}", EAGER)) for where in ("device", "host"))
    assert torch.allclose(on_device, prefetched, rtol=1e-3), (on_device, prefetched)
    return f"relative error {((on_device - prefetched).abs() / on_device).max().item():.1e}"


def the_fused_weighted_sum_is_correct() -> str:
    """Compare output and gradients with float64, for layers of ResNets and for other shapes."""
    errors = {torch.float32: 0.0, torch.bfloat16: 0.0, torch.float16: 0.0}
    torch.set_float32_matmul_precision("highest")
    for c_in, c_out, side in ((16, 16, 32), (32, 32, 16), (64, 64, 8), (3, 16, 32), (70, 33, 7), (256, 512, 9)):
        for dtype in errors:
            conv = WeightedSumConv2d(c_in, c_out, 3, padding=1, implementation="fused", device=DEVICE, dtype=dtype)
            exact = WeightedSumConv2d(c_in, c_out, 3, padding=1, device=DEVICE, dtype=torch.float64)
            exact.load_state_dict(conv.state_dict())
            x = torch.randn(8, c_in, side, side, device=DEVICE, dtype=dtype).requires_grad_()
            exact_x = x.detach().double().requires_grad_()
            y, exact_y = conv(x), exact(exact_x)
            gradient = torch.randn_like(y)
            gradients = torch.autograd.grad(y, [x, *conv.parameters()], gradient)
            exact_gradients = torch.autograd.grad(exact_y, [exact_x, *exact.parameters()], gradient.double())
            for actual, expected in zip([y, *gradients], [exact_y, *exact_gradients], strict=True):
                error = ((actual.double() - expected).norm() / expected.norm()).item()
                errors[dtype] = max(errors[dtype], error)
    assert errors[torch.float32] < 1e-5, errors
    assert max(errors.values()) < 2e-2, errors
    return "relative errors " + ", ".join(
        f"{error:.0e} in {str(dtype).removeprefix('torch.')}" for dtype, error in errors.items()
    )


CHECKS: tuple[Callable[[], str], ...] = (
    compiled_losses_equal_eager_losses,
    a_changing_temperature_causes_no_recompilation,
    mixed_precision_losses_are_close_to_float32_losses,
    prefetched_images_give_the_same_losses,
)
GPU_CHECKS: tuple[Callable[[], str], ...] = (
    no_step_waits_for_the_device,
    the_fused_weighted_sum_is_correct,
    cuda_graph_losses_equal_eager_losses,
)


def run_checks() -> list[dict[str, Any]]:
    """Run all checks that the device supports. An exception makes a check fail, and the next check runs."""
    found = []
    for check in (*CHECKS, *(GPU_CHECKS if DEVICE.type == "cuda" else ())):
        begin = time.perf_counter()
        try:
            text, passed = check(), True
        except Exception as error:
            traceback.print_exc()
            text, passed = f"{type(error).__name__}: {error}", False
        name = check.__name__.replace("_", " ")
        found.append({"check": name, "passed": passed, "text": text, "seconds": time.perf_counter() - begin})
        print("PASS" if passed else "FAIL", name, text, flush=True)
    return found


# -- measurements ---------------------------------------------------------------------------------------------------


def command(module: str, *arguments: str) -> str:
    """Run an entry point in a separate process, and return its command line."""
    subprocess.run([sys.executable, "-m", f"convbench.{module}", *arguments], cwd=ROOT, check=True)
    return " ".join(["python -m", f"convbench.{module}", *arguments])


def epochs(small: bool, data: Path | None, scratch: Path) -> list[dict[str, Any]]:
    """The seconds per epoch of complete training runs."""
    fast = ("engine.autocast=bf16",) if DEVICE.type == "cuda" else ()
    runs: list[tuple[str, ...]] = []
    if small or data is None:
        tiny = ("data=shapes", "data.train=640", "epochs=2", "model.depth=8")
        runs += [(f"conv={conv}", *tiny) for conv in ("standard", "weighted_sum")]
    else:
        pets = ("experiment=dog_cat_bird", "epochs=5", "engine.compile=true", *fast)
        runs += [(f"conv={conv}", *pets) for conv in ("standard", "weighted_sum", "dynamic")]
        runs.append(("conv=weighted_sum", "conv.implementation=fused", *pets))
        runs += [(f"conv={conv}", "engine.cuda_graph=true", *pets) for conv in ("standard", "weighted_sum")]
        large = ("data=folder", f"data.root={data / 'cifar10'}", "model.depth=18", "epochs=3", "engine.compile=true")
        runs += [(f"conv={conv}", *large, *fast) for conv in ("standard", "dynamic")]
    found = []
    for index, overrides in enumerate(runs):
        folder = scratch / f"run{index}"
        command_line = command("train", *overrides, f"hydra.run.dir={folder}", "engine.watch=false")
        result = json.loads((folder / "results.json").read_text())
        keys = ("model", "conv", "seconds_per_epoch", "images_per_second", "peak_memory_bytes", "test")
        without_paths = re.sub(r" (hydra\.run\.dir|data\.root)=\S+", "", command_line)
        found.append({"command": without_paths} | {key: result[key] for key in keys})
    return found


def measured(small: bool, data: Path | None) -> dict[str, Any]:
    """The results of both suites of `convbench.bench`, and of complete training runs."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        layers_overrides = ("layers.networks=[resnet8]", "layers.batch_size=4", "layers.rounds=2") if small else (
            "layers.networks=[resnet20]", "layers.batch_size=128", "layers.rounds=5", "layers.precisions=[none,bf16]",
            "layers.convs=[standard,weighted_sum,dynamic,from_scratch,depthwise_separable,grouped]",
        )  # fmt: skip
        commands = [command("bench", "suite=layers", *layers_overrides, f"output={scratch / 'layers'}")]
        tiny = ("data=shapes", "data.train=256", "data.val=40", "data.test=40", "model.depth=8", "batch_size=32")
        loop_overrides = (*tiny, "loop.rounds=1", "loop.steps=2", "loop.rungs=up") if small or data is None else (
            "experiment=dog_cat_bird", "loop.rounds=5", "loop.steps=20", "loop.rungs=up",
        )  # fmt: skip
        commands.append(command("bench", "suite=loop", *loop_overrides, f"output={scratch / 'loop'}"))
        layers = json.loads((scratch / "layers" / "layers.json").read_text())
        loop = json.loads((scratch / "loop" / "loop.json").read_text())
        layers.pop("cases")
        return {
            "commands": [re.sub(r" output=\S+", "", command_line) for command_line in commands],
            "layers": layers,
            "loop": loop,
            "epochs": epochs(small, data, scratch),
        }


# -- the page -------------------------------------------------------------------------------------------------------


def page(report: dict[str, Any]) -> str:
    """The report as a Markdown page."""
    lines = [f"# {report['device']}", "", f"Made by `python scripts/gpu_report.py`: {report['versions']}.", ""]
    checks = [[one["check"], "passed" if one["passed"] else "FAILED", one["text"]] for one in report["checks"]]
    lines += ["## Checks", "", *markdown_table(["check", "", ""], checks, left=3), "", "## Training runs", ""]
    runs = [
        [f"`{one['command']}`", one["model"], f"{one['seconds_per_epoch']:.3f}", f"{one['images_per_second']:,.0f}"]
        for one in report["epochs"]
    ]
    lines += [*markdown_table(["command", "network", "s/epoch", "images/s"], runs, left=2), "", "## The loop", ""]
    loops = [
        [one["rung"], f"{1000 * one['seconds_per_step']:.2f}", f"{one['images_per_second']:,.0f}",
         f"{one['times_the_usual']:.2f}"]
        for one in report["loop"]["rungs"]
    ]  # fmt: skip
    head = ["loop", "ms per step", "images/s", "speed relative to the usual script"]
    lines += [*markdown_table(head, loops), "", "## Layers", ""]
    layers = [
        [f"`{one['conv']}` {one['implementation']}", one["precision"], f"{1000 * one['forward_seconds']:.2f}",
         f"{1000 * one['training_seconds']:.2f}", f"{100 * one['share']:.0f}"]
        for one in report["layers"]["totals"]
    ]  # fmt: skip
    head = ["convolution", "precision", "forward ms", "training ms", "% of the roofline"]
    return "\n".join([*lines, *markdown_table(head, layers, left=2)]) + "\n"


def main() -> None:
    """Run the checks and the measurements, and write the report. Exits with 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", nargs="?", type=Path, help="folder with the unpacked data sets dog_cat_bird and cifar10"
    )
    parser.add_argument("--small", action="store_true", help="measure only a few steps of a small network, for a CPU")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder to write to")
    given = parser.parse_args()
    if given.data is not None:
        given.data = given.data.resolve()
        os.environ["CONVBENCH_DATA"] = str(given.data)
    begin = time.perf_counter()
    register_resolvers()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    report = {"device": describe_device(DEVICE), "versions": versions, "checks": run_checks()}
    report |= measured(given.small, given.data)
    report["seconds"] = time.perf_counter() - begin
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{platform.machine()} cpu"
    given.out.mkdir(parents=True, exist_ok=True)
    stem = given.out / re.sub(r"\W+", "-", name).strip("-").lower()
    stem.with_suffix(".json").write_text(to_json(report, indent=1) + "\n")
    stem.with_suffix(".md").write_text(page(report))
    print(f"{stem}.json and .md, {report['seconds']:.0f} s")
    if not all(one["passed"] for one in report["checks"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
