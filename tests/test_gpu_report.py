"""The report for a GPU, made small on the CPU: the command itself must not be what fails where a GPU is at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_report.py"


@pytest.mark.slow
def test_one_command_checks_measures_and_writes_a_page(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--small", "--out", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,), (page,) = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    report = json.loads(measured.read_text())
    assert len(report["checks"]) >= 4
    assert all(check["passed"] for check in report["checks"])
    assert report["layers"]["totals"]
    assert report["loop"]["rungs"][0]["rung"] == "the usual script"
    assert all(run["seconds_per_epoch"] > 0 for run in report["epochs"])
    assert "convbench.train" in page.read_text()
