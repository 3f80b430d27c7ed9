"""Train the runs in the README's table of results, and write the table: `python scripts/readme_results.py`.

The runs are written to outputs/readme/. The script can be stopped and started again: it keeps finished runs and resumes
others. With `--write` it trains nothing, and writes the README from docs/results.json and docs/terminal.txt.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pages import markdown_table, write_section

from convbench.files import to_json

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "outputs" / "readme"
MEASURED = ROOT / "docs" / "results.json"
README = ROOT / "README.md"
SHOWN = "shapes-weighted_sum-0"  # the run whose console output the README shows

_PETS = ("experiment=dog_cat_bird", "epochs=10", "engine.compile=true")
# The runs: their name, the text in the first column of the table, and the overrides of the command.
EXPERIMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        f"dog_cat_bird-{conv}-{seed}": ("dog_cat_bird, 10 epochs", (*_PETS, f"conv={conv}", f"seed={seed}"))
        for seed in range(3)
        for conv in ("standard", "weighted_sum")
    },
    "mnist": ("MNIST, 2 epochs", ("data=mnist", "epochs=2")),
    **{
        f"shapes-{conv}-{seed}": ("shapes, 3 epochs", ("epochs=3", f"conv={conv}", f"seed={seed}"))
        for seed in range(3)
        for conv in ("standard", "weighted_sum", "dynamic")
    },
}
KEPT = ("data", "conv", "model", "seed", "epochs", "params", "macs", "test", "best", "device", "versions")
KEPT += ("seconds_per_epoch", "images_per_second", "seconds_total")


def train(name: str, overrides: Iterable[str]) -> dict[str, Any]:
    """The results of one experiment, which is trained or resumed unless it is finished."""
    folder = RUNS / name
    path = folder / "results.json"
    status = json.loads(path.read_text())["status"] if path.exists() else None
    if status != "finished":
        arguments = [f"resume={folder}"] if status is not None else [*overrides, f"hydra.run.dir='{folder}'"]
        subprocess.run([sys.executable, "-m", "convbench.train", *arguments], cwd=ROOT, check=True)
    return json.loads(path.read_text())


def measure() -> None:
    """Train all experiments, and write the results for the table and the console output."""
    measured = {}
    for name, (title, overrides) in EXPERIMENTS.items():
        result = train(name, overrides)
        command = " ".join(["python -m convbench.train", *overrides])
        measured[name] = {"title": title, "command": command} | {key: result[key] for key in KEPT}
    MEASURED.write_text(to_json(measured, indent=1) + "\n")
    log = (RUNS / SHOWN / "train.log").read_text()
    (ROOT / "docs" / "terminal.txt").write_text(re.sub(r"^[-\d]+ [:,\d]+ [A-Z]+ ", "", log, flags=re.MULTILINE))


def percent(values: list[float]) -> str:
    """The mean and the standard deviation over seeds, in percent."""
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean


def rows() -> list[str]:
    """The table of results, with a row for each data set and convolution."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in json.loads(MEASURED.read_text()).values():
        groups.setdefault((run["title"], run["conv"]), []).append(run)
    cells = []
    for (title, conv), runs in groups.items():
        one = runs[0]
        row = [
            title,
            one["model"],
            conv,
            f"{one['params']:,}",
            f"{one['macs'] / 1e6:.1f} M",
            str(len(runs)),
            percent([run["test"]["accuracy"] for run in runs]),
            percent([run["best"]["test"]["accuracy"] for run in runs]),
            f"{statistics.mean(run['test']['loss'] for run in runs):.3f}",
        ]
        cells.append(row)
    head = ["data", "network", "conv", "parameters", "MACs", "n", "test %", "test % of best val. epoch", "test loss"]
    versions, device = one["versions"], one["device"]
    return [
        *markdown_table(head, cells, left=3),
        f"\nOn {device}, torch {versions['torch']}. Accuracy after the last epoch: mean ± standard deviation over",
        "n seeds.",
    ]


def terminal() -> list[str]:
    """The console output of a run: its log without the time and level of each line."""
    lines = (ROOT / "docs" / "terminal.txt").read_text().splitlines()
    folder = (RUNS / SHOWN).relative_to(ROOT)
    return [
        "```",
        f"$ python -m convbench.train {' '.join(EXPERIMENTS[SHOWN][1])} hydra.run.dir={folder}",
        *lines,
        "```",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="train nothing; only write the README")
    os.environ.setdefault("CONVBENCH_DATA", str(ROOT / "datasets"))
    if not parser.parse_args().write:
        measure()
    write_section(README, "results", "readme_results.py", rows())
    write_section(README, "terminal", "readme_results.py", terminal())
