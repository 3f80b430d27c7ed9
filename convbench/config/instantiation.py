"""Instantiation of the objects that a configuration describes."""

from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from convbench.errors import UserError


def instantiate(node: DictConfig | dict[str, Any], group: str, **given: Any) -> Any:
    """Instantiate the object that a section of the configuration describes.

    Args:
        node: the section, with the class in `_target_` and its arguments as the other keys.
        group: the name of the section, for error messages.
        **given: further arguments of the constructor.

    Raises:
        UserError: if the constructor refuses a value, a value has the wrong type, or the class cannot be imported.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all", **given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if cause is None or isinstance(cause, ImportError | AttributeError) or "locating target" in str(error):
            raise UserError(f"{str(error).splitlines()[0]} ({group}._target_)") from error
        if isinstance(cause, TypeError | ValueError):
            raise UserError(f"{node['_target_']} does not take these values: {cause} ({group})") from error
        raise
