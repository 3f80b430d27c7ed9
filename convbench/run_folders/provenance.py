"""The provenance of results: code, library versions, device and settings that can change the computed numbers.

This module does not import PyTorch, because the versions are recorded before PyTorch is loaded.
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
    """Twelve hexadecimal digits of a hash over all source files of the package; they change with any line."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that take part in the computation, by name."""
    return {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def circumstances(config: DictConfig, device: str, threads: int) -> dict[str, Any]:
    """Everything that can change the numbers of a training run or of an evaluation.

    Args:
        config: the configuration of the run.
        device: the description of the device.
        threads: the number of threads that PyTorch uses on the CPU.
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
    """The keys of both dictionaries whose values differ: `torch 2.9.0 -> 2.10.0, threads 4 -> 2`, or an empty text.

    Args:
        before: how one part of a run was computed; the key `from_epoch` is ignored.
        after: how a later part was computed.
    """
    keys = [key for key in before if key in after and key != "from_epoch" and before[key] != after[key]]
    return ", ".join(f"{key} {before[key]} -> {after[key]}" for key in keys)


def implementations_text(rows: Sequence[tuple[str, str]]) -> str:
    """A short text that is equal for two networks only if each convolution uses the same implementation.

    Args:
        rows: the name and the implementation of each convolution; the implementation is empty if there is only one.
    """
    chosen = [(name, implementation) for name, implementation in rows if implementation]
    counts = Counter(implementation for _, implementation in chosen)
    text = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    if len(counts) < 2:
        return text
    return f"{text} ({hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:8]})"
