"""Measure the figures of docs/performance.md and write them: `python scripts/performance.py DATA [PART ...]`.

DATA is a folder that holds the image pack `dog_cat_bird`, unpacked. Takes half an hour on two CPU cores that do nothing
else; parts can be measured by themselves: see PARTS. What is compared is measured in turns, in one process or by whole
commands, and compared by the median of the ratios. With `--write` nothing is measured: the pages are written from
docs/performance.json.
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
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the commands have it; PyTorch reads it when it is loaded

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
from convbench.engine.evaluation import evaluate  # noqa: E402
from convbench.experiment.composition import compose  # noqa: E402
from convbench.experiment.training import Training, build_training  # noqa: E402
from convbench.files import to_json  # noqa: E402
from convbench.tuning.clock import in_turns  # noqa: E402
from convbench.tuning.implementations import medians, training_call  # noqa: E402

CPU = torch.device("cpu")
PETS = "experiment=dog_cat_bird"
AUTO = "conv.implementation=auto"
CONVS = {"standard": ("conv=standard",), "weighted_sum": ("conv=weighted_sum", AUTO)}
Rows = dict[str, Any]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


# -- measurements ---------------------------------------------------------------------------------------------------


def run(*words: str, **environment: str) -> float:
    """Carry out a command of the project; gives its seconds."""
    ours = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}  # set by trainings
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=ours | environment, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout.decode()}")
    return time.perf_counter() - begin


def config(*overrides: str) -> DictConfig:
    """The configuration of a training."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose_config("train", list(overrides))


def training(*overrides: str) -> Training:
    """A training, built but not begun."""
    made = config(*overrides)
    composition = compose(made)
    return build_training(made, composition, composition.source.load())


def ladder() -> Rows:
    """`bench suite=loop` for each of the convolutions."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for conv, words in CONVS.items():
            few = ("loop.rounds=7", "loop.steps=8", f"output={folder}/{conv}")
            run("convbench.bench", "suite=loop", PETS, *words, *few)
            found[conv] = json.loads((Path(folder) / conv / "loop.json").read_text())["rungs"]
    return found


def convolutions() -> Rows:
    """Training steps of whole trainings with different convolutions, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            conv: OurLoop(config(PETS, *words, "epochs=1000", "engine.compile=false"), Path(folder) / conv)
            for conv, words in CONVS.items()
        }
        calls = {conv: partial(loop.steps, 8) for conv, loop in loops.items()}
        times = in_turns(calls, CPU, rounds=9)
    seconds = {conv: [second / 8 for second in found.seconds] for conv, found in times.items()}
    return {"seconds_per_step": seconds, "times_standard": ratio(seconds["standard"], seconds["weighted_sum"])}


def implementations() -> Rows:
    """What `auto` chooses in the layers of a ResNet-20, with large pages of memory and with PyTorch's usual ones."""
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
    """What `auto` chooses, against each implementation for all layers."""
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
            first = {way: times.median for way, times in medians(conv, x, "none").items()}
            best = min(first, key=lambda way: first[way])
            chosen[best] = chosen.get(best, 0) + layer.count
            calls = {}
            for way in (*first, "auto"):  # measured anew, so that luck in choosing is no speed
                twin = copy.deepcopy(conv)
                twin.use(best if way == "auto" else way)
                calls[way] = training_call(twin, x, "none")
            measured = in_turns(calls, CPU, rounds)
            layers[f"{layer.count} x {layer}"] = {way: times.median for way, times in measured.items()}
            for way, times in measured.items():
                sums[way] = sums.get(way, np.zeros(rounds)) + layer.count * np.array(times.seconds)
        found[name] = {
            "chosen": chosen,
            "layers": layers,
            "seconds": {way: statistics.median(times) for way, times in sums.items()},
            "auto_over": {way: ratio(sums["auto"], times) for way, times in sums.items() if way != "auto"},
        }
    return found


def batches() -> Rows:
    """Making a batch, augmented, as a share of the step that trains on it."""
    found = {}
    for conv, words in CONVS.items():
        for compiled in ("false", "true"):
            made = training(PETS, *words, f"engine.compile={compiled}")
            steps, epochs = [], []
            for epoch in range(6):
                begin = time.perf_counter()
                for batch in made.train.epoch(epoch):
                    last = batch
                epochs.append((time.perf_counter() - begin) / len(made.train))
                begin = time.perf_counter()
                for index in range(8):
                    made.step(8 * epoch + index, *last)
                steps.append((time.perf_counter() - begin) / 8)
            found[f"{conv}, {'compiled' if compiled == 'true' else 'eager'}"] = {
                "batch_seconds": statistics.median(epochs[1:]),
                "step_seconds": statistics.median(steps[1:]),
                "share": ratio(epochs[1:], steps[1:]),
            }
    return found


def scale() -> Rows:
    """Seconds an epoch, and memory, from a thousand images to sixty thousand."""
    counts = (1000, 5000, 15000, 30000, 45000, 60000)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    memory: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(3):
            for count in counts:
                small = ("data=shapes", "model.depth=8", "model.widths=[8,16,16]", "epochs=2", "engine.watch=false")
                where = f"{folder}/{count}-{turn}"
                run("convbench.train", *small, f"data.train={count}", "engine.compile=false", f"hydra.run.dir={where}")
                result = json.loads((Path(where) / "results.json").read_text())
                seconds[count].append(result["seconds_per_epoch"])
                memory[count].append(result["peak_memory_bytes"])
    steps = [128 * (count // 128) for count in counts]  # images of whole batches
    lines = {}
    for name, values in (("seconds", seconds), ("memory", memory)):
        y = np.array([statistics.median(values[count]) for count in counts])
        slope, start = np.polyfit(steps, y, 1)
        rest = y - (slope * np.array(steps) + start)
        lines[name] = {"per_image": slope, "r_squared": 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()}
    points = [
        {"images": count, "seconds": statistics.median(seconds[count]), "memory": statistics.median(memory[count])}
        for count in counts
    ]
    return {"points": points, "lines": lines}


def starts() -> Rows:
    """The same command twice: what the first one compiled and decoded, the second one finds."""
    first, second, eager, bare = [], [], [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            words = ("data=shapes", "data.train=512", "epochs=1", "model.depth=14", "conv=weighted_sum")
            compiled = ("convbench.train", *words, "engine.compile=true", f"engine.cache={folder}/cache")
            first.append(run(*compiled, f"hydra.run.dir={folder}/1"))
            second.append(run(*compiled, f"hydra.run.dir={folder}/2"))
            eager.append(run("convbench.train", *words, "engine.compile=false", f"hydra.run.dir={folder}/3"))
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch, torch._dynamo"], check=True)
            bare.append(time.perf_counter() - begin)
    medians_of = {"first": first, "second": second, "eager": eager, "importing torch and its compiler": bare}
    return {
        "seconds": {name: statistics.median(values) for name, values in medians_of.items()},
        "second_over_first": ratio(second, first),
    }


def whole_runs() -> Rows:
    """An epoch of one command in different ways, in turns: where images lie, memory, threads, processes."""
    plain = ("convbench.train", PETS, "conv=weighted_sum", "epochs=2", "engine.compile=false", "engine.watch=false")
    two = ("torch.distributed.run", "--nproc_per_node=2", "-m")
    ways: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "as it is": (plain, {}),
        "images with the host, fetched ahead": ((*plain, "engine.images=host"), {}),
        "images in a file, mapped into memory": ((*plain, "data.on_disk=true"), {}),
        "without large pages": (plain, {"THP_MEM_ALLOC_ENABLE": "0"}),
        "one thread": ((*plain, "engine.threads=1"), {}),
        "two processes of one thread": ((*two, *plain, "engine.threads=1"), {"OMP_NUM_THREADS": "1"}),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(5):
            for index, (way, (words, environment)) in enumerate(ways.items()):
                where = f"{folder}/{index}-{turn}"
                run(*words, f"hydra.run.dir={where}", **environment)
                result = json.loads((Path(where) / "results.json").read_text())
                seconds[way].append(result["seconds_per_epoch"])
    return {
        way: {"images_per_second": 11904 / statistics.median(found), "times": ratio(seconds["as it is"], found)}
        for way, found in seconds.items()
    }


def evaluation() -> Rows:
    """The validation set as scripts evaluate it, reading each batch's score and with gradients, against ours."""
    made = training(PETS, "conv=standard", "engine.compile=false")
    network, batches_of = made.step.network, made.evaluation("val")
    labels = batches_of.split.labels
    assert labels is not None

    def usual(context: Any) -> None:
        network.eval()
        for batch, rows, count in batches_of:
            with context():
                logits = network(batch)[:count]
                torch.nn.functional.cross_entropy(logits, labels[rows]).item()
                (logits.argmax(1) == labels[rows]).sum().item()
        network.train()

    calls = {
        "with gradients, reading each batch's score": partial(usual, torch.enable_grad),
        "without gradients": partial(usual, torch.no_grad),
        "convbench: and read once": partial(evaluate, network, batches_of, "none"),
    }
    times = in_turns(calls, CPU, rounds=7)
    slow = times["with gradients, reading each batch's score"].seconds
    return {
        way: {"images_per_second": len(batches_of.split) / found.median, "times": ratio(slow, found.seconds)}
        for way, found in times.items()
    }


PARTS: Mapping[str, Callable[[], Rows]] = {
    "ladder": ladder,
    "convolutions": convolutions,
    "implementations": implementations,
    "batches": batches,
    "scale": scale,
    "starts": starts,
    "whole_runs": whole_runs,
    "evaluation": evaluation,
}


# -- pages ----------------------------------------------------------------------------------------------------------


def rung(rows: Sequence[Rows], name: str) -> Rows:
    """A loop of the ladder."""
    return next(row for row in rows if row["rung"] == name)


def settled(rows: Sequence[Rows]) -> Rows:
    """`convbench.train` as `engine.compile=auto` ends up once it knows both: compiled, or eager."""
    return min(
        (row for row in rows if row["rung"].startswith("convbench.train")), key=lambda row: row["seconds_per_step"]
    )


def figures(found: Rows) -> list[str]:
    """The figures that were asked for, beside what was measured."""
    rows: list[list[str]] = []

    def add(figure: str, wanted: str, measured: str) -> None:
        rows.append([figure, wanted, measured])

    for conv, wanted in (("standard", "1.8"), ("weighted_sum", "2.5")):
        ours = settled(found["ladder"][conv])
        add(f"{conv}: images/s over those of the usual script", f"≥ {wanted}", f"{ours['times_the_usual']:.2f}")
        add(f"{conv}: images/s over those of a bare compiled loop", "≥ 0.93", f"{ours['times_the_bare']:.2f}")
    times = found["convolutions"]["times_standard"]
    add("eager, in turns: images/s of weighted_sum over those of standard", "≥ 1.4", f"{times:.2f}")
    layers = "layers of ResNet-20"
    for pages, convs in found["implementations"].items():
        over = convs["dynamic"]["auto_over"]["grouped"]
        add(f"{layers}, {pages}: time of dynamic's `auto` over `grouped`", "≤ 0.75", f"{over:.2f}")
        for name, row in convs.items():
            over = max(row["auto_over"].values())
            add(f"{layers}, {pages}: time of {name}'s `auto` over its best single one", "≤ 1.03", f"{over:.2f}")
    scratch = json.loads(FROM_SCRATCH.read_text())["seconds"]
    one, both = scratch["Convolution"], scratch["Convolution, forward and backward"]
    over = one["each colour"]["shift_matmul"] / one["each colour"]["F.conv2d"]
    add("860 x 1600, each colour: time of `shift_matmul` over `F.conv2d`, channels first", "≤ 1.3", f"{over:.2f}")
    for kernel in one:
        for kind, direction, most in ((one, "forward", "1.0"), (both, "forward and backward", "2")):
            best = min(kind[kernel]["F.conv2d"], kind[kernel]["F.conv2d, channels_last"])
            text = f"860 x 1600, {kernel}, {direction}: time of `fused` over the faster `F.conv2d`"
            add(text, f"≤ {most}", f"{kind[kernel]['fused'] / best:.2f}")
    share = max(row["share"] for row in found["batches"].values())
    add("share of a step that making and augmenting its batch takes", "≤ 5 %", f"{100 * share:.1f} %")
    seconds, memory = found["scale"]["lines"]["seconds"], found["scale"]["lines"]["memory"]
    add("seconds an epoch, 1,000 to 60,000 images: R² of a line", "> 0.99", f"{seconds['r_squared']:.4f}")
    text = f"{memory['per_image']:,.0f} bytes, R² {memory['r_squared']:.4f}"
    add("memory for each further image (its pixels are 3,072 bytes)", "flat", text)
    again = found["starts"]["second_over_first"]
    add("time of a compiling command over its first time", "≤ 60 %", f"{100 * again:.0f} %")
    return markdown_table(["figure", "wanted", "measured"], rows)


def ladders(found: Rows) -> list[str]:
    """A table for each convolution."""
    lines = []
    for conv, rows in found["ladder"].items():
        cells = [
            [row["rung"], f"{1000 * row['seconds_per_step']:.1f}", f"{row['images_per_second']:,.0f}",
             f"{(row['memory'] or 0) / 1e6:,.0f}", "" if row["gain"] is None else f"{row['gain']:.2f}",
             f"{row['times_the_usual']:.2f}"]
            for row in rows
        ]  # fmt: skip
        head = [f"conv={conv}", "ms a step", "images/s", "MB", "gain", "times the usual script"]
        lines += [*markdown_table(head, cells), ""]
    return [*lines, *(f"- {technique.name}: {technique.text}." for technique in TECHNIQUES), "", where(found)]


def where(found: Rows) -> str:
    """On what machine, for the foot of a table."""
    return f"On {found['device']}, torch {found['torch']}, batches of 128 images of 32 x 32 pixels."


def guide(found: Rows) -> list[str]:
    """Every item of PyTorch's performance tuning guide, with the switch and the measured effect."""

    def gain(name: str) -> str:
        steps = found["ladder"]
        parts = [
            f"{conv} {rung(steps[conv], f'+ {name}')['gain']:.2f}, {rung(steps[conv], f'without {name}')['gain']:.2f}"
            for conv in steps
        ]
        return "; ".join(parts)

    def times(way: str) -> str:
        return f"{found['whole_runs'][way]['times']:.2f} times as fast"

    gpu = "not measured yet"
    scores = found["evaluation"]["without gradients"]["times"]
    rows = [
        ("Asynchronous data loading and augmentation", "none needed: images lie on the device as uint8, batches are "
         "made there; `engine.images=host` fetches ahead", f"on the device: {gain('data on the device')}; "
         f"augmentation there: {gain('device augmentation')}"),
        ("No gradients in validation", "always", f"{scores:.2f} times as fast"),
        ("No bias before a batch norm", "networks have none; `conv.bias=`", gain("no bias before norm")),
        ("`grad = None` instead of zeros", "always", gain("grad=None")),
        ("Fuse operations", "`engine.compile=`", gain("compile")),
        ("channels_last", "`engine.channels_last=`", gain("channels_last")),
        ("Checkpoint intermediate buffers", "no: `engine.accumulate=` is the way to less memory", ""),
        ("Disable debugging APIs", "none is on; what looks inside a network does so between epochs", ""),
        ("NUMA controls", "for whoever starts the process: `numactl`", "one node here"),
        ("OpenMP threads", "`engine.threads=`", f"one instead of two: {times('one thread')}"),
        ("Intel's OpenMP library", "for whoever starts the process: `LD_PRELOAD`", "not measured"),
        ("Another memory allocator", "PyTorch's large pages: `THP_MEM_ALLOC_ENABLE=1`, unless it is set",
         f"without: {times('without large pages')}"),
        ("oneDNN Graph", "no: for inference with TorchScript", ""),
        ("DistributedDataParallel on a CPU", "`torchrun`", f"two of a thread: {times('two processes of one thread')}"),
        ("Tensor cores", "TF32 products, unless `engine.deterministic=true`; `engine.autocast=`", gpu),
        ("CUDA graphs", "`engine.cuda_graph=`", gpu),
        ("cuDNN's auto-tuner", "always, unless `engine.deterministic=true`", gpu),
        ("No synchronisation of host and device", "always: a step reads nothing; a look every `engine.log_every` steps",
         gain("no host reads")),
        ("Create tensors on the device", "always", "in: data on the device"),
        ("Mixed precision", "`engine.autocast=`", gpu),
        ("Preallocate for inputs of different lengths", "no: every batch has one shape", ""),
        ("An efficient data-parallel backend", "`torchrun`: DistributedDataParallel", f"on GPUs {gpu}"),
        ("No all-reduce while gradients accumulate", "always: `engine.accumulate=`", "counted by a test"),
        ("Order of layers as they run", "no: all parameters are used in every step", ""),
        ("Balance the load", "always: each process gets equal parts of each batch", ""),
        ("Beside the guide: a fused optimizer", "always, where PyTorch has it", gain("fused optimizer")),
    ]  # fmt: skip
    return markdown_table(["item", "here", "measured"], rows, left=3)


def others(found: Rows) -> list[str]:
    """What is no rung of the ladder."""
    runs = [
        [way, f"{row['images_per_second']:,.0f}", f"{row['times']:.2f}"] for way, row in found["whole_runs"].items()
    ]
    scores = [
        [way, f"{row['images_per_second']:,.0f}", f"{row['times']:.2f}"] for way, row in found["evaluation"].items()
    ]
    chosen = [
        [name, pages, ", ".join(f"{count} {way}" for way, count in row["chosen"].items()),
         ", ".join(f"{way} {1000 * second:.0f}" for way, second in row["seconds"].items())]
        for pages, convs in found["implementations"].items()
        for name, row in convs.items()
    ]  # fmt: skip
    ways = [way for way in found["implementations"]["large pages"]["dynamic"]["seconds"] if way != "auto"]
    apart = [
        [layer, *("/".join(f"{1000 * convs['dynamic']['layers'][layer][way]:.1f}" for convs in pages) for way in ways)]
        for pages in [list(found["implementations"].values())]
        for layer in pages[0]["dynamic"]["layers"]
    ]
    parts = [
        [conv, f"{1000 * row['batch_seconds']:.2f}", f"{1000 * row['step_seconds']:.1f}", f"{100 * row['share']:.1f}"]
        for conv, row in found["batches"].items()
    ]
    points = [
        [f"{point['images']:,}", f"{point['seconds']:.2f}", f"{point['memory'] / 1e6:,.0f}"]
        for point in found["scale"]["points"]
    ]
    begun = [[name, f"{second:.1f}"] for name, second in found["starts"]["seconds"].items()]
    return [
        *markdown_table(["an epoch of weighted_sum", "images/s", "times as fast"], runs), "",
        *markdown_table(["the validation set", "images/s", "times as fast"], scores), "",
        *markdown_table(["layers of ResNet-20", "memory", "`auto` chose", "ms of all layers, training"], chosen, 4), "",
        *markdown_table([f"ms of dynamic's layers, {'/'.join(found['implementations'])}", *ways], apart), "",
        *markdown_table(["making batches", "ms a batch", "ms a step", "%"], parts), "",
        *markdown_table(["images", "seconds an epoch", "MB at the peak"], points), "",
        *markdown_table(["whole command, 512 images, one epoch", "seconds"], begun), "",
        where(found),
    ]  # fmt: skip


def readme_lines(found: Rows) -> list[str]:
    """The few figures of the README."""
    names = ("the usual script", "bare loop", "convbench.train, compiled", "convbench.train, eager")
    rows = []
    for conv, steps in found["ladder"].items():
        speeds = [f"{rung(steps, name)['images_per_second']:,.0f}" for name in names]
        rows.append([f"`{conv}`", *speeds, f"{settled(steps)['times_the_usual']:.2f}"])
    head = ["images/s", "usual script", "bare loop", "ours, compiled", "ours, eager", "times the usual script"]
    times = found["convolutions"]["times_standard"]
    return [
        *markdown_table(head, rows),
        "",
        f"ResNet-14 on dog_cat_bird, batches of 128, {found['device']}, torch {found['torch']}. Eager and in turns,",
        f"`weighted_sum` trains at {times:.2f} times the speed of `standard`.",
    ]


def main() -> None:
    """Measure what is asked for, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder that holds the pack dog_cat_bird")
    parser.add_argument("parts", nargs="*", help=f"what to measure, of {', '.join(PARTS)}; nothing: everything")
    parser.add_argument("--write", action="store_true", help="measure nothing, only write the pages")
    given = parser.parse_args()
    found = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    if not given.write:
        if given.data is None or not set(given.parts) <= set(PARTS):
            parser.error("DATA is missing" if given.data is None else f"choose parts of {', '.join(PARTS)}")
        os.environ["CONVBENCH_DATA"] = str(given.data.resolve())
        register_resolvers()
        for part in given.parts or PARTS:
            print(part, flush=True)
            found[part] = PARTS[part]()
            found |= {"device": describe_device(CPU), "torch": re.sub(r"\+.*", "", torch.__version__)}
            MEASURED.write_text(to_json(found, indent=1) + "\n")
    name = Path(__file__).name
    write_section(PAGE, "figures", name, figures(found))
    write_section(PAGE, "ladder", name, ladders(found))
    write_section(PAGE, "guide", name, guide(found))
    write_section(PAGE, "others", name, others(found))
    write_section(README, "speed", name, readme_lines(found))


if __name__ == "__main__":
    main()
