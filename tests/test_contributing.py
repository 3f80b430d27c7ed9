"""The recipes of CONTRIBUTING.md, each followed in a copy of the repository."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
# By the words before a block that is added to a file: the file, and the line after which it goes (None: at the end).
PLACES = {
    "At the end of `convbench/engine/schedules.py`": ("convbench/engine/schedules.py", None),
    "In the list of `convbench/report/columns.py`": ("convbench/report/columns.py", "    chosen = ["),
    "At the end of `convbench/diagnostics/diagrams.py`": ("convbench/diagnostics/diagrams.py", None),
}
SMALL = [word for word in TINY if not word.startswith("data.")]


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the repository in which the recipe of a heading was followed."""

    def follow(heading: str) -> Path:
        for folder in ("convbench", "conf", "tests"):
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        recipe = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
        blocks = re.findall(r"^([^\n]+):\n\n```\w+\n(.*?)^```", recipe, re.MULTILINE | re.DOTALL)
        assert blocks
        for words, text in blocks:
            if words in PLACES:
                insert(tmp_path, *PLACES[words], text)
            else:
                path = tmp_path / words.strip("`")
                assert not path.exists()
                path.write_text(text)
        return tmp_path

    return follow


def insert(folder: Path, file: str, place: str | None, text: str) -> None:
    path = folder / file
    content = path.read_text()
    if place is None:
        path.write_text(f"{content}\n\n{text}")
        return
    before, found, after = content.partition(f"{place}\n")
    assert found, f"{file} has lost the line {place!r}"
    entry = textwrap.indent(text.rstrip(), " " * 8) + ",\n"  # of a list
    path.write_text(f"{before}{found}{entry}{after}")


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(folder: Path) -> dict[str, object]:
    (path,) = folder.glob("outputs/runs/*/results.json")
    return json.loads(path.read_text())


def test_the_table_of_rooms_is_the_contract_of_the_import_linter() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    table = re.findall(r"^\| \d+ \| (.*) \|$", PAGE, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in table] == [
        set(layer.split(" | ")) - {"__main__"} for layer in layers
    ]


def test_a_convolution_trains_and_the_contract_finds_it(copy: Callable[[str], Path]) -> None:
    folder, name = copy("A convolution"), "weight_normalised"
    run(folder, "-m", "convbench.train", f"conv={name}", *TINY)
    assert {row["implementation"] for row in results(folder)["swap"]} == {"scaled_kernels"}
    said = run(
        folder,
        "-m",
        "pytest",
        "tests/convs/test_contract.py",
        "tests/config/test_conf.py",
        "-k",
        name,
        "-p",
        "no:xdist",
    )
    assert int(re.search(r"(\d+) passed", said)[1]) > 100
    assert (
        run(folder, "-c", "import convbench; print(convbench.convs.WeightNormalisedConv2d(2, 4, 3).name)").strip()
        == name
    )


def test_a_data_set_is_trained_on_and_never_mirrored_unless_it_says_so(copy: Callable[[str], Path]) -> None:
    folder = copy("A data set")
    run(folder, "-m", "convbench.train", "data=stripes", *SMALL)
    found = results(folder)
    assert found["classes"] == ["horizontal", "vertical"]
    assert found["images"] == {"train": 256, "val": 256, "test": 256}
    (config,) = folder.glob("outputs/runs/*/config.yaml")
    assert re.search(r"augment:.*?flip: false", config.read_text(), re.DOTALL)


def test_a_schedule_sets_the_learning_rate(copy: Callable[[str], Path]) -> None:
    folder = copy("A schedule")
    run(folder, "-m", "convbench.train", "schedule=polynomial", "schedule.power=3", "optimizer.lr=0.1", *TINY)
    (path,) = folder.glob("outputs/runs/*/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    steps = 64 // 16
    wanted = [0.1 * (1 - (steps * epoch - 1) / (2 * steps)) ** 3 for epoch in (1, 2)]
    assert [row["lr"] for row in rows] == pytest.approx(wanted)


def test_a_sink_receives_the_epochs(copy: Callable[[str], Path]) -> None:
    folder = copy("A sink")
    run(folder, "-m", "convbench.train", "logger=[console,csv]", "logger.csv.name=rows.csv", *TINY)
    (path,) = folder.glob("outputs/runs/*/rows.csv")
    with path.open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert not list(folder.glob("outputs/runs/*/events.*")), "TensorBoard was not chosen"


def test_a_column_is_in_the_table(copy: Callable[[str], Path]) -> None:
    folder = copy("A column of the report")
    written = ROOT / "tests" / "run_folders" / "earlier_version" / "sweep"
    shutil.copytree(written, folder / "sweep")
    run(folder, "-m", "convbench.compare", "sweep")
    with (folder / "sweep" / "report" / "table.csv").open(newline="") as file:
        total = {row["conv"]: float(row["seconds_total"]) for row in csv.DictReader(file)}
    recorded = json.loads((written / "conv=dynamic,seed=0" / "results.json").read_text())["seconds_total"]
    assert total["dynamic"] == pytest.approx(recorded)


def test_a_diagram_reaches_the_sinks(copy: Callable[[str], Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = copy("A diagram")
    run(folder, "-m", "convbench.train", *TINY)
    (run_folder,) = (path.parent for path in folder.glob("outputs/runs/*/results.json"))
    events = EventAccumulator(str(run_folder)).Reload()
    (first, *_) = [tag for tag in events.Tags()["scalars"] if tag.startswith("weight_size/")]
    assert len(events.Scalars(first)) == 2
