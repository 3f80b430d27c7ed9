"""Every conv of conf/conv, found by its yaml: a file and a yaml more are cases more in the contract."""

from pathlib import Path

from hydra.utils import get_class
from omegaconf import OmegaConf

from convbench.convs.base import Conv2dBase

CONF = Path(__file__).parents[2] / "conf" / "conv"
YAMLS = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in sorted(CONF.glob("*.yaml"))}
CLASSES: dict[str, type[Conv2dBase]] = {name: get_class(yaml["_target_"]) for name, yaml in YAMLS.items()}
CASES = [(name, implementation) for name, conv in CLASSES.items() for implementation in conv.implementations]
