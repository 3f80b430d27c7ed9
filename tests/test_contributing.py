"""The example in CONTRIBUTING.md: one file and one yaml make a conv."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY

ROOT = Path(__file__).parent.parent
NAME = "weight_normalised"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository with the example's two files, which it lacks so far."""
    for folder in ("convbench", "conf", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = (ROOT / "CONTRIBUTING.md").read_text()
    files = re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [path for path, _ in files] == [f"convbench/convs/{NAME}.py", f"conf/conv/{NAME}.yaml"]
    for path, text in files:
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(text)
    return tmp_path


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_trains_and_the_contract_finds_it(copy: Path) -> None:
    assert f"convs are {NAME} (scaled_kernels)" in run(copy, "-m", "convbench.train", f"conv={NAME}", *TINY)
    said = run(
        copy, "-m", "pytest", "tests/convs/test_contract.py", "tests/config/test_conf.py", "-k", NAME, "-p", "no:xdist"
    )
    assert int(re.search(r"(\d+) passed", said)[1]) > 100
