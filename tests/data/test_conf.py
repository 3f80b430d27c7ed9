import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from convbench.data.types import ImageSpec
from convbench.errors import UserError

FOLDER = Path(__file__).parents[2] / "conf" / "data"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
DOWNLOADED = {"cifar10": (3, 32, 10), "cifar100": (3, 32, 100), "mnist": (1, 28, 10), "fashion_mnist": (1, 28, 10)}


def compose(name: str, datasets: str = "sets") -> DictConfig:
    """The yaml file under the key `data`, with the key `datasets` that it refers to."""
    config = OmegaConf.create({"datasets": datasets, "data": OmegaConf.load(FOLDER / f"{name}.yaml")})
    assert isinstance(config, DictConfig)
    return config


def build(config: DictConfig) -> Any:
    return instantiate(config.data, _convert_="all")


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_of_a_yaml_file_are_the_arguments_of_its_class(name: str) -> None:
    target, *keys = compose(name).data
    signature = inspect.signature(get_class(compose(name).data[target]))
    assert target == "_target_"
    assert keys == list(signature.parameters)
    for key, parameter in signature.parameters.items():
        # Defaults are in the yaml file. Keys added later also have a default in the class, for earlier runs.
        assert parameter.default in (inspect.Parameter.empty, compose(name).data.get(key))


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_data_set_has_a_spec_before_it_is_downloaded(name: str) -> None:
    source = build(compose(name))
    channels, image_size, classes = DOWNLOADED[name]
    assert source.spec() == ImageSpec(channels, image_size, source.spec().classes)
    assert len(source.spec().classes) == classes
    assert source.root == Path("sets")
    assert source.sources[-1].startswith("http")


def test_the_shapes_need_no_files() -> None:
    assert build(compose("shapes")).spec().image_size == 32


@pytest.mark.parametrize(("name", "flip"), [("mnist", False), ("cifar10", True), ("shapes", True)])
def test_flip_is_disabled_for_digits(name: str, flip: bool) -> None:
    assert build(compose(name)).flip is flip


def test_the_error_for_a_missing_dog_cat_bird_folder_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        build(compose("dog_cat_bird", str(tmp_path))).spec()
    message = str(error.value)
    assert str(tmp_path / "dog_cat_bird") in message
    assert "data.root" in message
    assert "Kaggle" in message
    assert "CONVBENCH_DATA" in message


def test_the_root_of_a_folder_has_no_default() -> None:
    assert OmegaConf.is_missing(compose("folder").data, "root")
