"""What can be said of a configuration before anything is built: its options, its hash, the names of its folders.

No torch here, so that a slip is answered in the first half second.
"""

import copy
import hashlib
import json
import os
import re
import secrets
import textwrap
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from convbench.errors import UserError

# The groups of options by which variants of an experiment are told apart.
GROUPS = ("data", "conv", "model", "augment", "optimizer", "schedule")

_OCCASION = ("resume", "sweep")
_PLACE = ("datasets", "engine.cache", "engine.threads")

_LONGEST_NAME = 120  # bytes of a folder's name; file systems stop at 255


def conf_folder() -> Path:
    """The folder of yaml files: inside the package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def options(group: str) -> list[str]:
    """The options of a group, such as those of `conv`."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def help_page(config_name: str) -> str:
    """The text of `conf/hydra/help/CONFIG_NAME.yaml`.

    Hydra would print the same, after it has listed the options of all its own groups, which no page of ours shows: two
    thirds of the time that `--help` took.
    """
    page = OmegaConf.load(conf_folder() / "hydra" / "help" / f"{config_name}.yaml")
    return str(OmegaConf.create({"hydra": {"help": page}}).hydra.help.template)


def options_page() -> str:
    """All groups with their options, for a help page: lines of at most 80 columns."""
    groups = sorted(folder.name for folder in conf_folder().iterdir() if folder.is_dir() and folder.name != "hydra")
    return "\n".join(options_line(group) for group in groups)


def options_line(group: str) -> str:
    """A group with its options, wrapped at 80 columns."""
    line = f"{group}: {', '.join(options(group))}"
    return textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    ")


def load_option(group: str, option: str, key: str) -> DictConfig:
    """Read one option of a group as it stands in its yaml.

    Raises:
        UserError: if there is none; names those there are, and the key that asked for it.
    """
    if option not in options(group):
        raise UserError(f"{key}={option} is no {group}: choose {', '.join(options(group))} ({key})")
    loaded = OmegaConf.load(conf_folder() / group / f"{option}.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def environment(name: str, default: str) -> str:
    """A variable of the environment; one that is empty counts as unset."""
    return os.environ.get(name) or default


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


def code_digest() -> str:
    """Twelve hexadecimal digits that change with any line of the package: runs of different code are told apart."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def conv_name(config: DictConfig, choice: str) -> str:
    """What a run's convolution is called: the option of the group, or the class a user put in with `conv._target_`."""
    target = str(config.conv._target_)
    return choice if target.startswith("convbench.") else target.rpartition(".")[2]


def folder_name(overrides: str) -> str:
    """A readable, safe folder name from the overrides as typed: `conv=weighted_sum,seed=1`.

    Slashes would nest folders and long lists would exceed what a file system takes, so both are shortened; a digest
    keeps shortened names apart.
    """
    name = re.sub(r"[^\w.,=+-]+", "-", overrides).strip("-").encode()[:_LONGEST_NAME].decode(errors="ignore")
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


def register_resolvers() -> None:
    """Make the functions above known to the configs in `conf/`."""
    OmegaConf.register_new_resolver("environment", environment, replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("options_page", options_page, replace=True)
    OmegaConf.register_new_resolver("options_line", options_line, replace=True)
    # cached, so that all jobs of a sweep share one
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, use_cache=True, replace=True)
