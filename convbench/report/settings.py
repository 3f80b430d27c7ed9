"""How a comparison is made, as `conf/compare.yaml` has it."""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.config.options import conf_folder
from convbench.config.schema import check


@dataclass(frozen=True)
class Settings:
    """What a person can choose of a comparison.

    Attributes:
        by: keys that are compared; None for `conv` where it varies, else all that varies.
        reference: the option that others are compared with.
        difference: points of accuracy that one would like to be able to see.
        target_accuracy: of the validation set, in percent; None for one that all variants reach.
        test: `t` or `wilcoxon`.
    """

    by: tuple[str, ...] | None
    reference: str
    difference: float
    target_accuracy: float | None
    test: str


def settings_of(config: DictConfig) -> Settings:
    """Take over the keys of `conf/compare.yaml`, checked by `convbench.config.schema`."""
    by = [config.by] if isinstance(config.by, str) else config.by
    return Settings(
        by=tuple(map(str, by)) if by else None,
        reference=str(config.reference),
        difference=float(config.difference),
        target_accuracy=None if config.target_accuracy is None else float(config.target_accuracy),
        test=config.test,
    )


def default_settings(**changes: Any) -> Settings:
    """The settings of `conf/compare.yaml`, some of them changed.

    Raises:
        UserError: if there is no such setting, or its value is not allowed.
    """
    loaded = OmegaConf.load(conf_folder() / "compare.yaml")
    assert isinstance(loaded, DictConfig)
    config = OmegaConf.merge(OmegaConf.masked_copy(loaded, [str(key) for key in loaded if key != "hydra"]), changes)
    assert isinstance(config, DictConfig)
    del config["defaults"]
    config.folders = ["unused"]
    check(config, "compare")
    return settings_of(config)
