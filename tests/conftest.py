"""What many tests share: the command line in a process of its own, and in this one."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from convbench.cli.main import run_command

# The smallest experiment that goes through every room: two seconds on one core.
TINY = (
    "data.train=64",
    "data.val=20",
    "data.test=20",
    "data.image_size=16",
    "model.depth=8",
    "model.widths=[8,8,8]",  # with 4, oneDNN corrupts the heap on some CPUs (PyTorch 2.15, channels_last)
    "batch_size=16",
    "engine.compile=false",  # auto goes by the clock, and compiled code rounds in another way
    "epochs=2",
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests are many small things: a second thread costs more than it brings."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What other runs on this machine measured changes nothing here, nor the other way round."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def fresh_compiler() -> None:
    """Forget what other tests compiled: after a number of variants of the same lines, no more are compiled."""
    torch._dynamo.reset()


@pytest.fixture
def run_module(tmp_path: Path) -> Callable[..., Outcome]:
    """Run `python -m convbench.MODULE ARGUMENTS` in `tmp_path`, as a person would."""

    def run(module: str, *arguments: str, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", f"convbench.{module}", *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The same in this process, which has PyTorch loaded already."""
    import logging

    commands = ("train", "describe", "bench", "doctor", "evaluate", "apply_kernel", "compare")
    jobs = {name: getattr(importlib.import_module(f"convbench.{name}"), name) for name in commands}
    folders_keys = {"compare": "folders"}

    def run(module: str, *arguments: str) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        GlobalHydra.instance().clear()
        root = logging.getLogger()
        handlers, code = list(root.handlers), 0
        capsys.readouterr()
        try:
            run_command(module, jobs[module], folders_keys.get(module))
        except SystemExit as stop:
            code = int(stop.code or 0)
        except Exception:
            code = 1
        finally:
            for handler in set(root.handlers) - set(handlers):
                handler.close()
            root.handlers[:] = handlers
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], list[tuple[Path, dict[str, Any]]]]:
    """All runs below `tmp_path`: folder and `results.json`, in order of their names."""

    def read() -> list[tuple[Path, dict[str, Any]]]:
        return [(path.parent, json.loads(path.read_text())) for path in sorted(tmp_path.rglob("results.json"))]

    return read
