"""The options in `conf/`: which groups there are, what they hold, and the pages of `--help`.

Imports no PyTorch, so that a mistake on the command line is answered within half a second.
"""

import os
import textwrap
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.errors import UserError

# The groups of options by which variants of an experiment are told apart.
GROUPS = ("data", "conv", "model", "augment", "optimizer", "schedule")


def conf_folder() -> Path:
    """The folder of yaml files: inside the package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
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
    if group == "conv":  # its options set only what differs from the defaults of the swap
        loaded = OmegaConf.merge(OmegaConf.load(conf_folder() / "swap.yaml"), loaded)
    assert isinstance(loaded, DictConfig)
    return loaded


def plain_values(node: DictConfig) -> dict[str, Any]:
    """A section of a configuration as plain Python values, resolved."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def environment(name: str, default: str) -> str:
    """A variable of the environment; one that is empty counts as unset."""
    return os.environ.get(name) or default
