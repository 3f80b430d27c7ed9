"""Some of the cases of scripts/fuzz_config.py: odd values end in one sentence, or in a run that says how it ended."""

import subprocess
import sys
from pathlib import Path

import pytest

import convbench

ROOT = Path(convbench.__file__).parents[1]


@pytest.mark.parametrize("cases", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_odd_values_of_any_key_end_in_one_sentence_or_in_a_run_that_says_how_it_ended(cases: int) -> None:
    script = ROOT / "scripts" / "fuzz_config.py"
    if not script.exists():
        pytest.skip("the scripts are not part of a wheel")
    done = subprocess.run(
        [sys.executable, str(script), "--cases", str(cases), "--seed", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{cases} cases ")
