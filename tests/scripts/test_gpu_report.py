"""`scripts/gpu_report.py`: the whole report with a small network on the CPU, and its checks on a GPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_report.py"


@pytest.mark.slow
def test_the_report_has_checks_measurements_and_a_page(tmp_path: Path) -> None:
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


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    module = importlib.import_module("gpu_report")
    module.register_resolvers()
    return module


@pytest.mark.gpu
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "check",
    [
        "no_step_waits_for_the_device",
        "the_fused_weighted_sum_is_correct",
        "cuda_graph_losses_equal_eager_losses",
        "compiled_losses_equal_eager_losses",
        "a_changing_temperature_causes_no_recompilation",
        "mixed_precision_losses_are_close_to_float32_losses",
        "prefetched_images_give_the_same_losses",
    ],
)
def test_the_check_passes_on_a_gpu(report: Any, check: str) -> None:
    getattr(report, check)()


def test_every_check_of_the_report_is_tested_on_a_gpu(report: Any) -> None:
    (parametrize,) = (mark for mark in test_the_check_passes_on_a_gpu.pytestmark if mark.name == "parametrize")
    assert {check.__name__ for check in (*report.CHECKS, *report.GPU_CHECKS)} == set(parametrize.args[1])
