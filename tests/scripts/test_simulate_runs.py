"""`scripts/simulate_runs.py` with few runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from convbench.report.variants import sort_into_variants
from convbench.run_folders.record import find_runs

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def simulated(tmp_path):
    """A folder with fifty simulated runs."""
    code = f"from pathlib import Path; from simulate_runs import write_runs; write_runs(Path({str(tmp_path)!r}), 50)"
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=True)
    return tmp_path


def test_simulated_runs_are_complete_and_form_variants_that_can_be_compared(simulated, run_here):
    found = find_runs([simulated])
    assert (len(found.runs), found.broken) == (50, [])
    comparison = sort_into_variants(found.runs, by=None, reference="standard")
    assert sorted(len(variant.finished) for variant in comparison.variants) == [10, 20, 20]
    assert comparison.keys == ["conv"]
    for variant in comparison.variants:
        configs = [run.config for run in variant.finished.values()]
        assert [config["seed"] for config in configs] == list(variant.finished)
    assert run_here("compare", str(simulated)).code == 0
    assert (simulated / "report" / "index.html").stat().st_size > 50_000
