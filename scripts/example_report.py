"""The example report on real images: `python scripts/example_report.py DATA [--write]`.

Trains three convolutions with three seeds on the dog_cat_bird images below DATA as a sweep in
outputs/sweeps/dog_cat_bird, goes on with it where it was stopped, and writes docs/example_report/, the picture of
TensorBoard and the section of the README. With `--write` nothing is trained.
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
    """A command of ours, from the top of the repository, where paths read as a user would type them."""
    subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ | environment, check=True)


def section() -> list[str]:
    """What the README shows of the report."""
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
        lines[2],  # what was read, and what the signs mean
        "",
        *sentences,
        "",
        f"![Accuracy and loss with bands over seeds]({REPORT}/curves_epochs.png)",
    ]


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with dog_cat_bird")
    parser.add_argument("--write", action="store_true", help="only write the report and the section of the README")
    given = parser.parse_args()
    if not given.write:
        if given.data is None:
            parser.error("DATA is missing")
        run("-m", "convbench.train", *COMMAND, "sweep.report=false", CONVBENCH_DATA=str(given.data.resolve()))
    shutil.rmtree(ROOT / REPORT, ignore_errors=True)
    run("-m", "convbench.compare", str(SWEEP), f"output={REPORT}")
    boards = ROOT / REPORT / "tensorboard"
    shown = [
        boards / conv / part
        for conv in ("standard", "weighted_sum")
        for part in ("mean - sigma", "mean", "mean + sigma")
    ]
    run("scripts/tensorboard_screenshot.py", str(PICTURE), *map(str, shown))
    shutil.rmtree(boards)  # binary, and made again in a second
    write_section(ROOT / "README.md", "example", "example_report.py", section())


if __name__ == "__main__":
    main()
