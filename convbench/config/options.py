"""The groups of options in `conf/`, the values of each option, and the help pages that list them.

This module does not import PyTorch, so that a mistake on the command line is reported within half a second.
"""

import os
import textwrap
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.errors import UserError

# The groups of options that distinguish the variants of an experiment.
GROUPS = ("data", "conv", "model", "augment", "optimizer", "schedule")


def conf_folder() -> Path:
    """The folder `conf`: inside the package in an installed wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def options(group: str) -> list[str]:
    """The names of the options of a group such as `conv`, sorted."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def help_page(config_name: str) -> str:
    """The help text in `conf/hydra/help/CONFIG_NAME.yaml`.

    Hydra would print the same text, but it first lists the options of all its own groups, which our pages do not show:
    this took two thirds of the time of `--help`.
    """
    page = OmegaConf.load(conf_folder() / "hydra" / "help" / f"{config_name}.yaml")
    return str(OmegaConf.create({"hydra": {"help": page}}).hydra.help.template)


def options_page() -> str:
    """All groups with their options for a help page, in lines of at most 80 columns."""
    groups = sorted(folder.name for folder in conf_folder().iterdir() if folder.is_dir() and folder.name != "hydra")
    return "\n".join(options_line(group) for group in groups)


def options_line(group: str) -> str:
    """One group with its options for a help page, wrapped at 80 columns."""
    line = f"{group}: {', '.join(options(group))}"
    return textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    ")


def load_option(group: str, option: str, key: str) -> DictConfig:
    """The content of the yaml file of an option.

    Args:
        group: the group, such as `conv`.
        option: the name of the option.
        key: the configuration key that named the option, for the error message.

    Raises:
        UserError: if the group has no such option; the message lists the existing ones.
    """
    if option not in options(group):
        raise UserError(f"{key}={option} is not an option of {group}: choose {', '.join(options(group))} ({key})")
    loaded = OmegaConf.load(conf_folder() / group / f"{option}.yaml")
    if group == "conv":  # the yaml files of convolutions contain only what differs from the defaults in swap.yaml
        loaded = OmegaConf.merge(OmegaConf.load(conf_folder() / "swap.yaml"), loaded)
    assert isinstance(loaded, DictConfig)
    return loaded


def plain_values(node: DictConfig) -> dict[str, Any]:
    """A section of a configuration as plain Python values, with all references resolved."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def environment(name: str, default: str) -> str:
    """The value of an environment variable; `default` if it is not set or empty."""
    return os.environ.get(name) or default
