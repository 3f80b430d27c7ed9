"""Every convolution of conf/conv, so that the contract tests include a new file and its yaml automatically."""

from hydra.utils import get_class
from omegaconf import OmegaConf

from convbench.config.options import load_option, options
from convbench.convs.base import Conv2dBase

YAMLS = {name: OmegaConf.to_container(load_option("conv", name, "conv")) for name in options("conv")}
CLASSES: dict[str, type[Conv2dBase]] = {name: get_class(yaml["_target_"]) for name, yaml in YAMLS.items()}
CASES = [(name, implementation) for name, conv in CLASSES.items() for implementation in conv.implementations]
