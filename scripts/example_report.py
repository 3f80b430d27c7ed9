"""Write the example report on real images: `python scripts/example_report.py DATA [--write]`.

The script trains three convolutions with three seeds on the images in DATA/dog_cat_bird, as the sweep
outputs/sweeps/dog_cat_bird. A sweep that was stopped is resumed. Then it writes docs/example_report/, the screenshot of
TensorBoard and the section of docs/comparison.md. With `--write` it trains nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pages import write_section

ROOT = Path(__file__).resolve().parent.parent
SWEEP = Path("outputs") / "sweeps" / "dog_cat_bird"
REPORT = Path("docs") / "example_report"
PICTURE = Path("docs") / "images" / "tensorboard_comparison.png"
COMMAND = (
    "-m",
    f"sweep={SWEEP.name}",
    "experiment=dog_cat_bird",
    "conv=standard,weighted_sum,dynamic",
    "seed=0,1,2",
    "epochs=10",
    "engine.compile=false",
    "engine.threads=1",
)
COLUMNS = ("conv", "n", "test, last (%)", "test, best val. (%)", "test loss", "parameters", "MACs (M)", "s/epoch")


def run(*command: str, **environment: str) -> None:
    """Run a Python command in the root of the repository, so that the paths in the report are relative to it."""
    subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ | environment, check=True)


def section() -> list[str]:
    """The section of docs/comparison.md: part of the report's table, its sentences, and a figure."""
    lines = (ROOT / REPORT / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    kept = [rows[0].index(name) for name in COLUMNS]
    table = ["| " + " | ".join(row[index].strip() for index in kept) + " |" for row in (rows[0], *rows[2:])]
    rule = "| " + " | ".join(["---", *["---:"] * (len(kept) - 1)]) + " |"
    sentences = [line for line in lines if line.startswith("- ") and not line.startswith("- **")]
    return [
        f"`python -m convbench.train {' '.join(COMMAND)}`:",
        "",
        table[0],
        rule,
        *table[1:],
        "",
        lines[2],  # the number of runs, and the meaning of the signs
        "",
        *sentences,
        "",
        f"![Accuracy and loss with bands over seeds]({REPORT.name}/curves_epochs.png)",
    ]


def main() -> None:
    """Train, compare the runs, and write the report and the section of docs/comparison.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder that contains dog_cat_bird")
    parser.add_argument("--write", action="store_true", help="train nothing; only write the report and the section")
    options = parser.parse_args()
    if not options.write:
        if options.data is None:
            parser.error("DATA is missing")
        run("-m", "convbench.train", *COMMAND, "sweep.report=false", CONVBENCH_DATA=str(options.data.resolve()))
    shutil.rmtree(ROOT / REPORT, ignore_errors=True)
    run("-m", "convbench.compare", str(SWEEP), f"output={REPORT}")
    tensorboard = ROOT / REPORT / "tensorboard"
    runs = [
        tensorboard / conv / part
        for conv in ("standard", "weighted_sum")
        for part in ("mean - sigma", "mean", "mean + sigma")
    ]
    run("scripts/tensorboard_screenshot.py", str(PICTURE), *map(str, runs))
    shutil.rmtree(tensorboard)  # the event files are binary, and quick to write again
    write_section(ROOT / "docs" / "comparison.md", "example", "example_report.py", section())


if __name__ == "__main__":
    main()
