"""The settings of a comparison, as in `conf/compare.yaml`."""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convbench.config.options import conf_folder
from convbench.config.schema import check


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison.

    Attributes:
        by: the keys to compare; None for `conv` if it varies, otherwise for all keys that vary.
        reference: the option or value that comes first and that the others are compared with.
        difference: the difference in accuracy that the runs should be able to detect, in percentage points. The
            findings tell how many seeds or test images this takes.
        target_accuracy: the validation accuracy, in percent, for the number of epochs to reach it; None for one that
            all variants reach.
        test: the statistical test, `t` or `wilcoxon`, see `statistics.difference`.
    """

    by: tuple[str, ...] | None
    reference: str
    difference: float
    target_accuracy: float | None
    test: str


def settings_of(config: DictConfig) -> Settings:
    """Convert a configuration of `conf/compare.yaml`, which has to be checked by `convbench.config.schema` before."""
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

    Args:
        **changes: the names of settings and their values.

    Raises:
        UserError: if a setting is unknown or its value is not allowed.
    """
    loaded = OmegaConf.load(conf_folder() / "compare.yaml")
    assert isinstance(loaded, DictConfig)
    config = OmegaConf.merge(OmegaConf.masked_copy(loaded, [str(key) for key in loaded if key != "hydra"]), changes)
    assert isinstance(config, DictConfig)
    del config["defaults"]
    config.folders = ["unused"]
    check(config, "compare")
    return settings_of(config)
