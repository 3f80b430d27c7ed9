"""The functions that configurations in `conf/` call, as `${name:arguments}`."""

from omegaconf import OmegaConf

from convbench.config.naming import folder_name, sweep_folder
from convbench.config.options import environment, options_line, options_page


def register_resolvers() -> None:
    """Make the functions above known to the configs in `conf/`."""
    OmegaConf.register_new_resolver("environment", environment, replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("options_page", options_page, replace=True)
    OmegaConf.register_new_resolver("options_line", options_line, replace=True)
    # cached, so that all jobs of a sweep share one
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, use_cache=True, replace=True)
