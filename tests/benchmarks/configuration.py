"""The configuration of a benchmark for tests."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from convbench.config.options import conf_folder
from convbench.config.resolvers import register_resolvers


def bench_config(*overrides: str) -> DictConfig:
    """The composed configuration of `convbench.bench`."""
    register_resolvers()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("bench", list(overrides))
