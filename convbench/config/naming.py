"""Names and hashes derived from a configuration: of experiments, run folders and sweep folders.

This module does not import PyTorch, so that a mistake on the command line is reported within half a second.
"""

import copy
import hashlib
import json
import re
import secrets
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from convbench.errors import UserError

# Keys that do not change what is trained: `config_hash` removes the first ones, and blanks the others after they have
# been interpolated into other keys.
_UNHASHED_KEYS = ("resume", "sweep", "logger")
_BLANKED_KEYS = ("datasets", "engine.cache", "engine.threads")

_MAX_NAME_BYTES = 100  # of a folder name, without the digest


def config_hash(config: DictConfig, leave_out: tuple[str, ...] = ()) -> str:
    """Twelve hexadecimal digits that identify the experiment: equal for equal resolved configurations.

    Keys that do not change what is trained are ignored: the folders of the data sets and of the cache, the number of
    threads, `resume`, `sweep` and `logger`.

    Args:
        config: the configuration of the run, not yet resolved, so that paths that refer to `datasets` are ignored, too.
        leave_out: further top-level keys to ignore.
    """
    config = copy.deepcopy(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    for key in _BLANKED_KEYS:
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is not None and leaf in node:  # also if its value is null
            OmegaConf.update(config, key, "")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    for key in (*_UNHASHED_KEYS, *leave_out):  # after resolving, as other keys may refer to them
        plain.pop(key, None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def conv_name(config: DictConfig, choice: str) -> str:
    """The name of a run's convolution: the option of the group `conv`, or the name of the user's own class.

    Args:
        config: the configuration of the run.
        choice: the option that was chosen from the group `conv`.
    """
    target = str(config.conv._target_)
    return choice if target.startswith("convbench.") else target.rpartition(".")[2]


def folder_name(overrides: str) -> str:
    """A readable folder name without characters that a shell or Hydra would interpret: `conv-weighted_sum_seed-1`.

    Other characters, such as slashes, and the end of a long name are removed; a digest then keeps the name unique.

    Args:
        overrides: the overrides of the command line, joined by `-` and `_`.
    """
    name = re.sub(r"[^\w.+-]+", "-", overrides).strip("-").encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    if name == overrides:
        return name or "defaults"
    # Two jobs of a sweep must not share a folder: the second one would resume from the checkpoint of the first.
    return f"{name}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}".lstrip("-")


def run_folder(resume: str | None, overrides: str) -> str:
    """The folder of a single run: the folder to resume, or a new one named after the time and the overrides.

    Raises:
        UserError: if the folder to resume does not exist; Hydra would create an empty one.
    """
    if resume:
        if not Path(resume).is_dir():
            raise UserError(f"there is no folder {resume}; give the folder of an interrupted run (resume)")
        return str(resume)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    base = Path("outputs") / "runs" / f"{stamp}_{folder_name(overrides)}"
    free, count = base, 2
    while free.exists():  # if two runs start in the same second
        free, count = base.with_name(f"{base.name}_{count}"), count + 1
    return str(free)


def sweep_folder(name: str | None) -> str:
    """The folder of a sweep: the one with the given name, which may exist already, or a new one.

    Raises:
        UserError: if the name is not a single component of a path.
    """
    if name is None:
        # The random suffix separates sweeps that start in the same second.
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
    name = str(name)
    if not name or Path(name).name != name:
        raise UserError(f"sweep={name} is not a folder name: give a name without slashes (sweep)")
    return str(Path("outputs") / "sweeps" / name)
