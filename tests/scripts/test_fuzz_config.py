"""`scripts/fuzz_config.py` with few cases."""

import subprocess
import sys
from pathlib import Path

import pytest

import convbench

ROOT = Path(convbench.__file__).parents[1]


@pytest.mark.parametrize("cases", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_random_values_of_random_keys_end_in_an_error_message_or_in_a_run_with_a_status(cases: int) -> None:
    script = ROOT / "scripts" / "fuzz_config.py"
    if not script.exists():
        pytest.skip("an installed wheel does not contain the scripts")
    done = subprocess.run(
        [sys.executable, str(script), "--cases", str(cases), "--seed", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{cases} cases ")
