"""Measure the figures of docs/performance.md, and write the page: `python scripts/performance.py DATA [PART ...]`.

DATA is a folder that contains the image data set `dog_cat_bird`, unpacked. All measurements take half an hour on two
idle CPU cores; see PARTS for measurements that can be run by themselves. Alternatives are measured in interleaved
rounds, in one process or as separate commands, and compared by the median of the ratios within each round. With
`--write` the script measures nothing, and writes the pages from docs/performance.json.
"""

import argparse
import copy
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
FROM_SCRATCH = ROOT / "docs" / "from_scratch.json"
# The commands of convbench set this variable, too. PyTorch reads it when it is imported.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hydra import compose as compose_config  # noqa: E402
from hydra import initialize_config_dir  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from pages import markdown_table, write_section  # noqa: E402

from convbench.benchmarks.ablation import TECHNIQUES  # noqa: E402
from convbench.benchmarks.layers import shapes  # noqa: E402
from convbench.benchmarks.loop_suite import OurLoop  # noqa: E402
from convbench.config.options import conf_folder, load_option  # noqa: E402
from convbench.config.resolvers import register_resolvers  # noqa: E402
from convbench.convs.base import Conv2dBase  # noqa: E402
from convbench.convs.factory import conv_factory  # noqa: E402
from convbench.engine.device import describe_device  # noqa: E402
from convbench.engine.scoring import evaluate  # noqa: E402
from convbench.experiment.composition import compose  # noqa: E402
from convbench.experiment.training import Training, build_training  # noqa: E402
from convbench.files import to_json  # noqa: E402
from convbench.tuning.clock import time_interleaved  # noqa: E402
from convbench.tuning.implementations import medians, training_call  # noqa: E402

CPU = torch.device("cpu")
PETS = "experiment=dog_cat_bird"
AUTO = "conv.implementation=auto"
CONVS = {"standard": ("conv=standard",), "weighted_sum": ("conv=weighted_sum", AUTO)}
Rows = dict[str, Any]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over all rounds of the ratio of two measurements."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


# -- measurements ---------------------------------------------------------------------------------------------------


def run(*words: str, **environment: str) -> float:
    """Run a Python module in a separate process, and return its time in seconds.

    Raises:
        SystemExit: The command failed.
    """
    # Training runs in this process set TORCHINDUCTOR_CACHE_DIR, which a command must not inherit.
    inherited = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=inherited | environment, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout.decode()}")
    return time.perf_counter() - begin


def config(*overrides: str) -> DictConfig:
    """The composed configuration of `convbench.train`."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose_config("train", list(overrides))


def training(*overrides: str) -> Training:
    """The objects of a training run."""
    composed = config(*overrides)
    composition = compose(composed)
    return build_training(composed, composition, composition.source.load())


def ablation() -> Rows:
    """The results of `bench suite=loop` for each convolution."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for conv, overrides in CONVS.items():
            settings = ("loop.rounds=7", "loop.steps=8", f"output={folder}/{conv}")
            run("convbench.bench", "suite=loop", PETS, *overrides, *settings)
            found[conv] = json.loads((Path(folder) / conv / "loop.json").read_text())["rungs"]
    return found


def convolutions() -> Rows:
    """The seconds per step of eager training with each convolution, in interleaved rounds."""
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            conv: OurLoop(config(PETS, *overrides, "epochs=1000", "engine.compile=false"), Path(folder) / conv)
            for conv, overrides in CONVS.items()
        }
        calls = {conv: partial(loop.steps, 8) for conv, loop in loops.items()}
        times = time_interleaved(calls, CPU, rounds=9)
    seconds = {conv: [second / 8 for second in found.seconds] for conv, found in times.items()}
    return {"seconds_per_step": seconds, "times_standard": ratio(seconds["standard"], seconds["weighted_sum"])}


def implementations() -> Rows:
    """The implementations that `auto` chooses in a ResNet-20, with large memory pages and with PyTorch's default."""
    found = {}
    for pages, flag in (("large pages", "1"), ("usual pages", "0")):
        code = "import json, performance; print(json.dumps(performance.tuned()))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env=os.environ | {"THP_MEM_ALLOC_ENABLE": flag},
            stdout=subprocess.PIPE,
            check=True,
        )
        found[pages] = json.loads(done.stdout.splitlines()[-1])
    return found


def tuned(rounds: int = 15) -> Rows:
    """Compare the implementations that `auto` chooses for each layer with a single implementation for all layers."""
    register_resolvers()
    found: Rows = {}
    for name in ("weighted_sum", "dynamic"):
        keys: Any = load_option("conv", name, "conv")
        arguments = {key: keys[key] for key in keys if key not in ("_target_", "skip", "unsupported", "implementation")}
        factory = conv_factory(keys["_target_"], **arguments)
        sums: dict[str, np.ndarray[Any, Any]] = {}
        chosen: dict[str, int] = {}
        layers: dict[str, dict[str, float]] = {}
        for layer in shapes("resnet20"):
            conv = factory(**layer.arguments).to(memory_format=torch.channels_last)
            assert isinstance(conv, Conv2dBase)
            x = torch.empty(128, layer.arguments["in_channels"], *layer.size)
            x = x.contiguous(memory_format=torch.channels_last)
            first = {option: times.median for option, times in medians(conv, x, "none").items()}
            best = min(first, key=lambda option: first[option])
            chosen[best] = chosen.get(best, 0) + layer.count
            calls = {}
            # All implementations are measured again. The first times are biased, because the choice depends on them.
            for option in (*first, "auto"):
                copied = copy.deepcopy(conv)
                copied.use(best if option == "auto" else option)
                calls[option] = training_call(copied, x, "none")
            measured = time_interleaved(calls, CPU, rounds)
            layers[f"{layer.count} x {layer}"] = {option: times.median for option, times in measured.items()}
            for option, times in measured.items():
                sums[option] = sums.get(option, np.zeros(rounds)) + layer.count * np.array(times.seconds)
        found[name] = {
            "chosen": chosen,
            "layers": layers,
            "seconds": {option: statistics.median(times) for option, times in sums.items()},
            "auto_over": {option: ratio(sums["auto"], times) for option, times in sums.items() if option != "auto"},
        }
    return found


def batches() -> Rows:
    """The time to make and augment a batch, in comparison with the time of a training step."""
    found = {}
    for conv, overrides in CONVS.items():
        for compiled in ("false", "true"):
            run_parts = training(PETS, *overrides, f"engine.compile={compiled}")
            steps, epochs = [], []
            for epoch in range(6):
                begin = time.perf_counter()
                for batch in run_parts.train.epoch(epoch):
                    last = batch
                epochs.append((time.perf_counter() - begin) / len(run_parts.train))
                begin = time.perf_counter()
                for index in range(8):
                    run_parts.step(8 * epoch + index, *last)
                steps.append((time.perf_counter() - begin) / 8)
            found[f"{conv}, {'compiled' if compiled == 'true' else 'eager'}"] = {
                "batch_seconds": statistics.median(epochs[1:]),
                "step_seconds": statistics.median(steps[1:]),
                "share": ratio(epochs[1:], steps[1:]),
            }
    return found


def scale() -> Rows:
    """The seconds per epoch and the peak memory for 1,000 to 60,000 images, and linear fits of both."""
    counts = (1000, 5000, 15000, 30000, 45000, 60000)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    memory: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(3):
            for count in counts:
                small = ("data=shapes", "model.depth=8", "model.widths=[8,16,16]", "epochs=2", "engine.watch=false")
                path = f"{folder}/{count}-{repetition}"
                run("convbench.train", *small, f"data.train={count}", "engine.compile=false", f"hydra.run.dir={path}")
                result = json.loads((Path(path) / "results.json").read_text())
                seconds[count].append(result["seconds_per_epoch"])
                memory[count].append(result["peak_memory_bytes"])
    trained = [128 * (count // 128) for count in counts]  # images in an epoch, without the incomplete last batch
    lines = {}
    for name, values in (("seconds", seconds), ("memory", memory)):
        y = np.array([statistics.median(values[count]) for count in counts])
        slope, intercept = np.polyfit(trained, y, 1)
        residuals = y - (slope * np.array(trained) + intercept)
        lines[name] = {"per_image": slope, "r_squared": 1 - (residuals**2).sum() / ((y - y.mean()) ** 2).sum()}
    points = [
        {"images": count, "seconds": statistics.median(seconds[count]), "memory": statistics.median(memory[count])}
        for count in counts
    ]
    return {"points": points, "lines": lines}


def starts() -> Rows:
    """The time of a short command, and of the same command again with the cache of compiled code of the first one."""
    first, second, eager, imports = [], [], [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            overrides = ("data=shapes", "data.train=512", "epochs=1", "model.depth=14", "conv=weighted_sum")
            compiled = ("convbench.train", *overrides, "engine.compile=true", f"engine.cache={folder}/cache")
            first.append(run(*compiled, f"hydra.run.dir={folder}/1"))
            second.append(run(*compiled, f"hydra.run.dir={folder}/2"))
            eager.append(run("convbench.train", *overrides, "engine.compile=false", f"hydra.run.dir={folder}/3"))
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch, torch._dynamo"], check=True)
            imports.append(time.perf_counter() - begin)
    seconds = {"first": first, "second": second, "eager": eager, "importing torch and its compiler": imports}
    return {
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "second_over_first": ratio(second, first),
    }


def whole_runs() -> Rows:
    """The seconds per epoch of a command with other settings for images, memory, threads and processes."""
    base = ("convbench.train", PETS, "conv=weighted_sum", "epochs=2", "engine.compile=false", "engine.watch=false")
    two_processes = ("torch.distributed.run", "--nproc_per_node=2", "-m")
    variants: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "as it is": (base, {}),
        "images with the host, fetched ahead": ((*base, "engine.images=host"), {}),
        "images in a file, mapped into memory": ((*base, "data.on_disk=true"), {}),
        "without large pages": (base, {"THP_MEM_ALLOC_ENABLE": "0"}),
        "one thread": ((*base, "engine.threads=1"), {}),
        "two processes of one thread": ((*two_processes, *base, "engine.threads=1"), {"OMP_NUM_THREADS": "1"}),
    }
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(5):
            for index, (variant, (words, environment)) in enumerate(variants.items()):
                path = f"{folder}/{index}-{repetition}"
                run(*words, f"hydra.run.dir={path}", **environment)
                result = json.loads((Path(path) / "results.json").read_text())
                seconds[variant].append(result["seconds_per_epoch"])
    return {
        variant: {"images_per_second": 11904 / statistics.median(found), "times": ratio(seconds["as it is"], found)}
        for variant, found in seconds.items()
    }


def evaluation() -> Rows:
    """The images per second of evaluation: as in most scripts, without gradients, and by `convbench`.

    Most scripts evaluate with gradients, and read the loss and the accuracy of every batch from the device.
    """
    run_parts = training(PETS, "conv=standard", "engine.compile=false")
    network, val_batches = run_parts.step.network, run_parts.evaluation("val")
    labels = val_batches.split.labels
    assert labels is not None

    def usual(context: Any) -> None:
        network.eval()
        for batch, rows, count in val_batches:
            with context():
                logits = network(batch)[:count]
                torch.nn.functional.cross_entropy(logits, labels[rows]).item()
                (logits.argmax(1) == labels[rows]).sum().item()
        network.train()

    calls = {
        "with gradients, reading each batch's score": partial(usual, torch.enable_grad),
        "without gradients": partial(usual, torch.no_grad),
        "convbench: and read once": partial(evaluate, network, val_batches, "none"),
    }
    times = time_interleaved(calls, CPU, rounds=7)
    slow = times["with gradients, reading each batch's score"].seconds
    return {
        name: {"images_per_second": len(val_batches.split) / found.median, "times": ratio(slow, found.seconds)}
        for name, found in times.items()
    }


PARTS: Mapping[str, Callable[[], Rows]] = {
    "ablation": ablation,
    "convolutions": convolutions,
    "implementations": implementations,
    "batches": batches,
    "scale": scale,
    "starts": starts,
    "whole_runs": whole_runs,
    "evaluation": evaluation,
}


# -- pages ----------------------------------------------------------------------------------------------------------


def loop_row(rows: Sequence[Rows], name: str) -> Rows:
    """The row of a loop in the ablation."""
    return next(row for row in rows if row["rung"] == name)


def settled(rows: Sequence[Rows]) -> Rows:
    """The faster row of `convbench.train`, compiled or eager: `engine.compile=auto` chooses it in a long run."""
    return min(
        (row for row in rows if row["rung"].startswith("convbench.train")), key=lambda row: row["seconds_per_step"]
    )


def figures(found: Rows) -> list[str]:
    """The table of required and measured figures."""
    rows: list[list[str]] = []

    def add(figure: str, required: str, measured: str) -> None:
        rows.append([figure, required, measured])

    for conv, required in (("standard", "1.8"), ("weighted_sum", "2.5")):
        ours = settled(found["ablation"][conv])
        add(f"{conv}: images/s relative to the usual script", f"≥ {required}", f"{ours['times_the_usual']:.2f}")
        add(f"{conv}: images/s relative to a bare compiled loop", "≥ 0.93", f"{ours['times_the_bare']:.2f}")
    times = found["convolutions"]["times_standard"]
    add("eager, interleaved: images/s of weighted_sum relative to standard", "≥ 1.4", f"{times:.2f}")
    layers = "layers of ResNet-20"
    for pages, convs in found["implementations"].items():
        relative = convs["dynamic"]["auto_over"]["grouped"]
        add(f"{layers}, {pages}: time of `auto` relative to `grouped`, dynamic", "≤ 0.75", f"{relative:.2f}")
        for name, row in convs.items():
            relative = max(row["auto_over"].values())
            text = f"{layers}, {pages}: time of `auto` relative to the best single implementation, {name}"
            add(text, "≤ 1.03", f"{relative:.2f}")
    scratch = json.loads(FROM_SCRATCH.read_text())["seconds"]
    forward, training_times = scratch["Convolution"], scratch["Convolution, forward and backward"]
    relative = forward["each colour"]["shift_matmul"] / forward["each colour"]["F.conv2d"]
    text = "860 x 1600, each colour: time of `shift_matmul` relative to `F.conv2d`, channels_first"
    add(text, "≤ 1.3", f"{relative:.2f}")
    for kernel in forward:
        for kind, direction, most in ((forward, "forward", "1.0"), (training_times, "forward and backward", "2")):
            best = min(kind[kernel]["F.conv2d"], kind[kernel]["F.conv2d, channels_last"])
            text = f"860 x 1600, {kernel}, {direction}: time of `fused` relative to the faster `F.conv2d`"
            add(text, f"≤ {most}", f"{kind[kernel]['fused'] / best:.2f}")
    share = max(row["share"] for row in found["batches"].values())
    add("time to make and augment a batch, as a share of a step", "≤ 5 %", f"{100 * share:.1f} %")
    seconds, memory = found["scale"]["lines"]["seconds"], found["scale"]["lines"]["memory"]
    add("seconds per epoch, 1,000 to 60,000 images: R² of a linear fit", "> 0.99", f"{seconds['r_squared']:.4f}")
    text = f"{memory['per_image']:,.0f} bytes, R² {memory['r_squared']:.4f}"
    add("memory for each additional image (its pixels are 3,072 bytes)", "flat", text)
    repeated = found["starts"]["second_over_first"]
    add("time of a compiled command, second run relative to the first", "≤ 60 %", f"{100 * repeated:.0f} %")
    return markdown_table(["figure", "required", "measured"], rows)


def ablation_tables(found: Rows) -> list[str]:
    """The table of the ablation for each convolution, and a list of the techniques."""
    lines = []
    for conv, rows in found["ablation"].items():
        cells = [
            [row["rung"], f"{1000 * row['seconds_per_step']:.1f}", f"{row['images_per_second']:,.0f}",
             f"{(row['memory'] or 0) / 1e6:,.0f}", "" if row["gain"] is None else f"{row['gain']:.2f}",
             f"{row['times_the_usual']:.2f}"]
            for row in rows
        ]  # fmt: skip
        head = [f"conv={conv}", "ms per step", "images/s", "MB", "gain", "relative to the usual script"]
        lines += [*markdown_table(head, cells), ""]
    return [*lines, *(f"- {technique.name}: {technique.text}." for technique in TECHNIQUES), "", machine(found)]


def machine(found: Rows) -> str:
    """A sentence with the machine and the size of the batches, for the end of a section."""
    return f"On {found['device']}, torch {found['torch']}, batches of 128 images of 32 x 32 pixels."


def guide(found: Rows) -> list[str]:
    """The items of PyTorch's performance tuning guide, each with its key and its measured effect."""

    def gain(name: str) -> str:
        parts = []
        for conv, rows in found["ablation"].items():
            added, removed = (loop_row(rows, f"{prefix} {name}")["gain"] for prefix in ("+", "without"))
            parts.append(f"{conv} {added:.2f}, {removed:.2f}")
        return "; ".join(parts)

    def times(variant: str) -> str:
        return f"{found['whole_runs'][variant]['times']:.2f} times as fast"

    gpu = "not measured yet"
    scores = found["evaluation"]["without gradients"]["times"]
    rows = [
        ("Asynchronous data loading and augmentation", "not needed: the uint8 images are stored on the device, and "
         "batches are made there; `engine.images=host` prefetches", f"data on the device: "
         f"{gain('data on the device')}; device augmentation: {gain('device augmentation')}"),
        ("No gradients in validation", "always", f"{scores:.2f} times as fast"),
        ("No bias before a batch norm", "the networks have none; `conv.bias=`", gain("no bias before norm")),
        ("`grad = None` instead of zeros", "always", gain("grad=None")),
        ("Fuse operations", "`engine.compile=`", gain("compile")),
        ("channels_last", "`engine.channels_last=`", gain("channels_last")),
        ("Checkpoint intermediate buffers", "no; `engine.accumulate=` reduces the memory", ""),
        ("Disable debugging APIs", "none is enabled; diagnostics of the network run between epochs", ""),
        ("NUMA controls", "set by the user who starts the process: `numactl`", "the machine has one node"),
        ("OpenMP threads", "`engine.threads=`", f"one thread instead of two: {times('one thread')}"),
        ("Intel's OpenMP library", "set by the user who starts the process: `LD_PRELOAD`", "not measured"),
        ("Another memory allocator", "large pages in PyTorch: `THP_MEM_ALLOC_ENABLE=1`, unless the variable is set",
         f"without: {times('without large pages')}"),
        ("oneDNN Graph", "no: for inference with TorchScript", ""),
        ("DistributedDataParallel on a CPU", "`torchrun`",
         f"two processes of one thread: {times('two processes of one thread')}"),
        ("Tensor cores", "TF32 products, unless `engine.deterministic=true`; `engine.autocast=`", gpu),
        ("CUDA graphs", "`engine.cuda_graph=`", gpu),
        ("cuDNN's auto-tuner", "always, unless `engine.deterministic=true`", gpu),
        ("No synchronisation of host and device", "always: metrics are read only every `engine.log_every` steps",
         gain("no host reads")),
        ("Create tensors on the device", "always", "included in data on the device"),
        ("Mixed precision", "`engine.autocast=`", gpu),
        ("Preallocate for inputs of different lengths", "no: all batches have the same shape", ""),
        ("An efficient data-parallel backend", "`torchrun`: DistributedDataParallel", f"on GPUs {gpu}"),
        ("No all-reduce while gradients accumulate", "always: `engine.accumulate=`", "checked by a test"),
        ("Order of layers in the constructor and in the forward pass", "no: every step uses all parameters", ""),
        ("Balance the load", "always: all processes get equal parts of each batch", ""),
        ("Not in the guide: a fused optimizer", "always, if PyTorch supports it", gain("fused optimizer")),
    ]  # fmt: skip
    return markdown_table(["item", "here", "measured"], rows, left=3)


def others(found: Rows) -> list[str]:
    """The tables of all measurements beside the ablation."""
    runs = [
        [name, f"{row['images_per_second']:,.0f}", f"{row['times']:.2f}"] for name, row in found["whole_runs"].items()
    ]
    evaluations = [
        [name, f"{row['images_per_second']:,.0f}", f"{row['times']:.2f}"] for name, row in found["evaluation"].items()
    ]
    chosen = [
        [name, pages, ", ".join(f"{count} {option}" for option, count in row["chosen"].items()),
         ", ".join(f"{option} {1000 * second:.0f}" for option, second in row["seconds"].items())]
        for pages, convs in found["implementations"].items()
        for name, row in convs.items()
    ]  # fmt: skip
    options = [name for name in found["implementations"]["large pages"]["dynamic"]["seconds"] if name != "auto"]
    by_pages = [convs["dynamic"]["layers"] for convs in found["implementations"].values()]
    per_layer = [
        [layer, *("/".join(f"{1000 * layers[layer][option]:.1f}" for layers in by_pages) for option in options)]
        for layer in by_pages[0]
    ]
    batch_times = [
        [conv, f"{1000 * row['batch_seconds']:.2f}", f"{1000 * row['step_seconds']:.1f}", f"{100 * row['share']:.1f}"]
        for conv, row in found["batches"].items()
    ]
    points = [
        [f"{point['images']:,}", f"{point['seconds']:.2f}", f"{point['memory'] / 1e6:,.0f}"]
        for point in found["scale"]["points"]
    ]
    commands = [[name, f"{second:.1f}"] for name, second in found["starts"]["seconds"].items()]
    pages = "/".join(found["implementations"])
    return [
        *markdown_table(["training epoch of weighted_sum", "images/s", "times as fast"], runs), "",
        *markdown_table(["evaluation of the validation set", "images/s", "times as fast"], evaluations), "",
        *markdown_table(["layers of ResNet-20", "memory", "`auto` chose", "ms of all layers, training"], chosen, 4), "",
        *markdown_table([f"layer of dynamic, ms with {pages}", *options], per_layer), "",
        *markdown_table(["making batches", "ms per batch", "ms per step", "%"], batch_times), "",
        *markdown_table(["images", "seconds per epoch", "peak memory, MB"], points), "",
        *markdown_table(["complete command, 512 images, one epoch", "seconds"], commands), "",
        machine(found),
    ]  # fmt: skip


def speeds(found: Rows) -> list[str]:
    """The table of speeds in the README and at the top of the page."""
    names = ("the usual script", "bare loop", "convbench.train, compiled", "convbench.train, eager")
    rows = []
    for conv, loops in found["ablation"].items():
        images = [f"{loop_row(loops, name)['images_per_second']:,.0f}" for name in names]
        rows.append([f"`{conv}`", *images, f"{settled(loops)['times_the_usual']:.2f}"])
    head = ["images/s", *names[:2], "convbench, compiled", "convbench, eager", "relative to the usual script"]
    times = found["convolutions"]["times_standard"]
    return [
        *markdown_table(head, rows),
        "",
        f"ResNet-14 on dog_cat_bird, batches of 128, {found['device']}, torch {found['torch']}. Eager, in interleaved",
        f"rounds, `weighted_sum` trains at {times:.2f} times the speed of `standard`.",
    ]


def main() -> None:
    """Run the chosen measurements, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder that contains the data set dog_cat_bird")
    parser.add_argument("parts", nargs="*", help=f"measurements to run, of {', '.join(PARTS)}; default: all")
    parser.add_argument("--write", action="store_true", help="measure nothing; only write the pages")
    arguments = parser.parse_args()
    found = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    if not arguments.write:
        if arguments.data is None or not set(arguments.parts) <= set(PARTS):
            parser.error("DATA is missing" if arguments.data is None else f"choose parts of {', '.join(PARTS)}")
        os.environ["CONVBENCH_DATA"] = str(arguments.data.resolve())
        register_resolvers()
        for part in arguments.parts or PARTS:
            print(part, flush=True)
            found[part] = PARTS[part]()
            found |= {"device": describe_device(CPU), "torch": re.sub(r"\+.*", "", torch.__version__)}
            MEASURED.write_text(to_json(found, indent=1) + "\n")
    name = Path(__file__).name
    write_section(PAGE, "figures", name, figures(found))
    write_section(PAGE, "ablation", name, ablation_tables(found))
    write_section(PAGE, "guide", name, guide(found))
    write_section(PAGE, "others", name, others(found))
    for page in (PAGE, README):
        write_section(page, "speed", name, speeds(found))


if __name__ == "__main__":
    main()
