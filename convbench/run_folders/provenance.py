"""How figures were computed: code, libraries, device and settings that change the last digits, or more.

Imports no PyTorch: the versions are wanted before it is loaded.
"""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

_LIBRARIES = ("convbench", "torch", "torchvision", "hydra-core", "numpy", "pillow")


def code_digest() -> str:
    """Twelve hexadecimal digits that change with any line of the package: runs of different code are told apart."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that take part in a figure."""
    return {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def circumstances(config: DictConfig, device: str, threads: int) -> dict[str, Any]:
    """What decides about the digits of any figure, of a training or of an evaluation.

    Args:
        config: of the run.
        device: for a person.
        threads: of PyTorch on the CPU.
    """
    engine = config.engine
    return {
        "code": code_digest(),
        **versions(),
        "device": device,
        "threads": threads,
        "precision": engine.autocast,
        "channels_last": engine.channels_last,
        "deterministic": engine.deterministic,
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What two parts have in common as a key, but not as a value: `torch 2.9.0 -> 2.10.0, threads 4 -> 2`, or empty."""
    keys = [key for key in before if key in after and key != "from_epoch" and before[key] != after[key]]
    return ", ".join(f"{key} {before[key]} -> {after[key]}" for key in keys)


def implementations_text(rows: Sequence[tuple[str, str]]) -> str:
    """A short text that two networks share only if each convolution computes in the same way.

    Args:
        rows: name and implementation of each convolution; empty where there is no choice.
    """
    chosen = [(name, implementation) for name, implementation in rows if implementation]
    counts = Counter(implementation for _, implementation in chosen)
    text = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    if len(counts) < 2:
        return text
    return f"{text} ({hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:8]})"
