"""The OmegaConf resolvers: functions that the yaml files in `conf/` call as `${name:arguments}`."""

from omegaconf import OmegaConf

from convbench.config.naming import folder_name, sweep_folder
from convbench.config.options import environment, options_line, options_page


def register_resolvers() -> None:
    """Register the resolvers that need nothing but `convbench.config`."""
    OmegaConf.register_new_resolver("environment", environment, replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("options_page", options_page, replace=True)
    OmegaConf.register_new_resolver("options_line", options_line, replace=True)
    # Cached, so that all jobs of a sweep get the same folder.
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, use_cache=True, replace=True)
