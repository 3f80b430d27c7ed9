"""Measure time and memory of comparisons of up to 10,000 runs: `python scripts/simulate_runs.py [--write]`.

The script writes simulated run folders, with real configurations and random metrics. It measures `convbench.runs` and
`convbench.compare` on 1,000, 3,000 and 10,000 of them, and writes the results to docs/scale.json and to a section of
docs/comparison.md. With `--write` it measures nothing, and only writes the section.
"""

import argparse
import itertools
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pages import markdown_table, write_section

from convbench.config.naming import config_hash
from convbench.config.options import conf_folder, options
from convbench.config.resolvers import register_resolvers
from convbench.files import to_json

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "scale.json"
PAGE = ROOT / "docs" / "comparison.md"

COUNTS = (1_000, 3_000, 10_000)
SEEDS = 20
EPOCHS = 30
LIMITS = {"runs_seconds": 5, "compare_seconds": 30, "compare_megabytes": 1024}


def write_runs(folder: Path, count: int) -> None:
    """Write `count` runs to subfolders of a folder, with twenty seeds of each configuration."""
    register_resolvers()
    rng = random.Random(0)
    rates = [round(0.4 * 0.8**power, 6) for power in itertools.islice(itertools.count(), 100)]
    variants = itertools.product(rates, options("conv"))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for number, (rate, conv) in enumerate(itertools.islice(variants, math.ceil(count / SEEDS))):
            config = compose("train", overrides=[f"conv={conv}", f"optimizer.lr={rate}", f"epochs={EPOCHS}"])
            text = OmegaConf.to_yaml(config, resolve=True)
            variant = config_hash(config, leave_out=("seed",))
            level = 0.8 - 0.02 * abs(math.log(rate / 0.1)) + rng.gauss(0, 0.01)
            for seed in range(min(SEEDS, count - number * SEEDS)):
                run_folder = folder / f"conv-{conv}_optimizer.lr-{rate}_seed-{seed}"
                run_folder.mkdir(parents=True)
                (run_folder / "config.yaml").write_text(text.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
                write_numbers(run_folder, conv, seed, level, variant, rng)


def write_numbers(run_folder: Path, conv: str, seed: int, level: float, variant: str, rng: random.Random) -> None:
    """Write `metrics.jsonl` and `results.json` with the size of those of a ResNet-20.

    Args:
        run_folder: folder to write to.
        conv: convolution of the run.
        seed: seed of the run.
        level: accuracy that the run approaches.
        variant: hash of the configuration without the seed.
        rng: generator of the random metrics.
    """
    rows = []
    for epoch in range(1, EPOCHS + 1):
        share = 1 - math.exp(-epoch / 8)
        noise = rng.gauss(0, 0.01)
        rows.append(
            {
                "epoch": epoch,
                "step": 390 * epoch,
                "train_loss": 2.3 * (1 - 0.8 * share) + noise,
                "train_accuracy": level * share + noise + 0.02,
                "val_loss": 2.3 * (1 - 0.7 * share) + noise,
                "val_accuracy": level * share + noise,
                "lr": 0.1,
                "temperature": None,
                "seconds": 10 + rng.random(),
                "images_per_second": 4500.0,
            }
        )
    (run_folder / "metrics.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
    scores = {"loss": rows[-1]["val_loss"], "accuracy": rows[-1]["val_accuracy"]}
    results: dict[str, Any] = {
        "status": "finished",
        "error": None,
        "config_hash": f"{variant[:6]}{seed:06d}",
        "variant_hash": variant,
        "command": f"python -m convbench.train conv={conv} seed={seed}",
        "choices": {"data": "shapes", "conv": conv, "model": "resnet", "augment": "light", "optimizer": "sgd"},
        "data": "shapes",
        "conv": conv,
        "model": "resnet20",
        "seed": seed,
        "epochs": EPOCHS,
        "epochs_done": EPOCHS,
        "train": scores,
        "val": scores,
        "best": {"epoch": EPOCHS, "val": scores, "test": scores},
        "test": scores,
        "began_at": "2026-01-01T00:00:00.000+00:00",
        "ended_at": "2026-01-01T00:05:00.000+00:00",
        "code": "0123456789ab",
        "versions": {"torch": "2.15.0"},
        "params": 100_000 + 1000 * len(conv),
        "macs": 40_000_000 + 1000 * len(conv),
        "device": "simulated",
        "swap": [
            {"name": f"layer{layer}", "description": "16 to 16, 3x3", "status": "swapped", "reason": ""}
            for layer in range(21)
        ],
        "seconds_per_epoch": 10 + rng.random(),
        "images_per_second": 4500 + rng.gauss(0, 50),
        "seconds_total": 320.0,
        "peak_memory_bytes": 10**9,
    }
    (run_folder / "results.json").write_text(to_json(results))


def measure(*command: str) -> tuple[float, float]:
    """The time of a command in seconds, and its peak memory in MiB."""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    begin = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - begin, int(output) / 1024


def measure_all() -> dict[str, Any]:
    """Measure all numbers of runs in `COUNTS`, the largest last."""
    sizes = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in COUNTS:
            folder = Path(scratch) / "runs"
            shutil.rmtree(folder, ignore_errors=True)
            write_runs(folder, count)
            runs = measure(sys.executable, "-m", "convbench.runs", str(folder))
            compare = measure(sys.executable, "-m", "convbench.compare", str(folder), f"output={scratch}/report")
            page = (Path(scratch) / "report" / "index.html").stat().st_size / 1e6
            sizes.append(
                {
                    "runs": count,
                    "variants": math.ceil(count / SEEDS),
                    "runs_seconds": runs[0],
                    "compare_seconds": compare[0],
                    "compare_megabytes": compare[1],
                    "page_megabytes": page,
                }
            )
            print(sizes[-1], flush=True)
    return {
        "sizes": sizes,
        "epochs": EPOCHS,
        "seeds": SEEDS,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
    }


def section(measured: dict[str, Any]) -> list[str]:
    """The table, and an extrapolation to ten times the largest number of runs."""
    sizes = measured["sizes"]
    head = ["runs", "variants", "time of `runs`", "time of `compare`", "peak memory of `compare`", "`index.html`"]
    rows = [
        [
            f"{size['runs']:,}",
            f"{size['variants']:,}",
            f"{size['runs_seconds']:.1f} s",
            f"{size['compare_seconds']:.1f} s",
            f"{size['compare_megabytes']:,.0f} MB",
            f"{size['page_megabytes']:.1f} MB",
        ]
        for size in sizes
    ]
    small, large = sizes[0], sizes[-1]
    difference = large["runs"] - small["runs"]
    seconds = (large["compare_seconds"] - small["compare_seconds"]) / difference
    memory = (large["compare_megabytes"] - small["compare_megabytes"]) / difference
    tenfold = 10 * large["runs"]
    tenfold_seconds = large["compare_seconds"] + seconds * (tenfold - large["runs"])
    tenfold_memory = large["compare_megabytes"] + memory * (tenfold - large["runs"])
    return [
        f"Simulated runs of {measured['epochs']} epochs, {measured['seeds']} seeds of each variant, "
        f"{measured['cores']} cores, Python {measured['versions']['python']}.",
        "",
        *markdown_table(head, rows, left=0),
        "",
        f"Every further 1,000 runs take {1000 * seconds:.1f} s and {1000 * memory:.0f} MB, so that {tenfold:,} runs "
        f"would take about {tenfold_seconds:.0f} s and {tenfold_memory / 1024:.1f} GiB: the files are read one after "
        "the other, and the results of all runs are in memory at the same time. Figures show only the 40 best "
        "variants.",
    ]


def main() -> None:
    """Measure unless `--write` is given, write the section, and fail if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--write", action="store_true", help="measure nothing; only write the section of docs/comparison.md"
    )
    if not parser.parse_args().write:
        MEASURED.write_text(to_json(measure_all(), indent=1) + "\n")
    measured = json.loads(MEASURED.read_text())
    write_section(PAGE, "scale", "simulate_runs.py", section(measured))
    over = [
        f"{key} {measured['sizes'][-1][key]:.1f}" for key, limit in LIMITS.items() if measured["sizes"][-1][key] > limit
    ]
    if over:
        raise SystemExit(f"the limits {LIMITS} are exceeded: {', '.join(over)}")


if __name__ == "__main__":
    main()
