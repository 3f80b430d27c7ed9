"""Names and hashes that follow from a configuration: of experiments, runs and sweeps.

Imports no PyTorch, so that a mistake on the command line is answered within half a second.
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

_OCCASION = ("resume", "sweep", "logger")
_PLACE = ("datasets", "engine.cache", "engine.threads")

_LONGEST_NAME = 100  # bytes of a folder's name


def config_hash(config: DictConfig, leave_out: tuple[str, ...] = ()) -> str:
    """Twelve hexadecimal digits that name the experiment: equal for equal resolved configs.

    Where it runs is no part of it, nor on which occasion: the folders of data sets and of the cache, threads, `resume`
    and `sweep`.

    Args:
        config: of the run, not yet resolved: paths below `datasets` are to follow it.
        leave_out: further top-level keys that shall not count.
    """
    config = copy.deepcopy(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    for key in _PLACE:
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is not None and leaf in node:  # null or not
            OmegaConf.update(config, key, "")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    for key in (*_OCCASION, *leave_out):  # now that what refers to them has its value
        plain.pop(key, None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def conv_name(config: DictConfig, choice: str) -> str:
    """What a run's convolution is called: the option of the group, or the class a user put in with `conv._target_`."""
    target = str(config.conv._target_)
    return choice if target.startswith("convbench.") else target.rpartition(".")[2]


def folder_name(overrides: str) -> str:
    """A readable folder name that no shell and no grammar has to quote: `conv-weighted_sum_seed-1`.

    Other characters, such as slashes, and the end of a long name are removed; a digest keeps such names apart.

    Args:
        overrides: keys and values, already joined by `-` and `_`.
    """
    name = re.sub(r"[^\w.+-]+", "-", overrides).strip("-").encode()[:_LONGEST_NAME].decode(errors="ignore")
    if name == overrides:
        return name or "defaults"
    # Two jobs of a sweep must not share a folder: the second would take the first one's checkpoint for its own.
    return f"{name}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}".lstrip("-")


def run_folder(resume: str | None, overrides: str) -> str:
    """The folder of a single run: that of the run to resume, or a new one named after time and overrides.

    Raises:
        UserError: if there is no folder to resume; Hydra would make an empty one.
    """
    if resume:
        if not Path(resume).is_dir():
            raise UserError(f"there is no folder {resume}; give the folder of a run that was interrupted (resume)")
        return str(resume)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    base = Path("outputs") / "runs" / f"{stamp}_{folder_name(overrides)}"
    free, count = base, 2
    while free.exists():  # two runs started in the same second
        free, count = base.with_name(f"{base.name}_{count}"), count + 1
    return str(free)


def sweep_folder(name: str | None) -> str:
    """The folder of a sweep: a named one, which may be there already, or a new one.

    Raises:
        UserError: for a name that would lead elsewhere.
    """
    if name is None:
        # Two sweeps started in one second must not share a folder.
        name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
    name = str(name)
    if not name or Path(name).name != name:
        raise UserError(f"sweep={name} is no name of a folder: give one without slashes (sweep)")
    return str(Path("outputs") / "sweeps" / name)
