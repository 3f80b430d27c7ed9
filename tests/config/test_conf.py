"""The yaml files in `conf/`: every option composes and has exactly the arguments of its constructor."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from convbench.config.options import conf_folder
from convbench.config.resolvers import register_resolvers
from convbench.config.schema import check
from convbench.convs.factory import conv_factory
from convbench.engine.schedules import Clock

CONF = conf_folder()
GROUPS = ("data", "conv", "model", "augment", "optimizer", "schedule", "engine")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("train", overrides=list(overrides))


def options(group: str) -> list[str]:
    return [option for its_group, option in OPTIONS if its_group == group]


def keys(node: DictConfig) -> set[str]:
    """The arguments in a yaml file: all keys except those of Hydra."""
    return {str(key) for key in node} - {"_target_", "_partial_"}


def signature(target: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(get_object(target)).parameters)


def assert_all_arguments_named(node: DictConfig) -> None:
    """Assert that the yaml file gives every argument of the constructor, so that it contains every default."""
    assert keys(node) == set(signature(node._target_))


def test_every_group_has_options_and_every_folder_is_a_known_group() -> None:
    others = {
        "experiment",
        "hydra",
        "launcher",
        "logger",
        "search",
    }  # tests/sweeps/test_launchers.py tests launcher and search
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*GROUPS, *others}
    assert {group for group, _ in OPTIONS} == set(GROUPS)
    assert EXPERIMENTS


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_passes_the_checks(group: str, option: str) -> None:
    config = composed(f"{group}={option}", *(["data.root=somewhere"] if option == "folder" else []))
    check(config, "train")
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_changes_something(experiment: str) -> None:
    config = composed(f"experiment={experiment}")
    check(config, "train")
    assert OmegaConf.to_container(config, resolve=True, throw_on_missing=True) != OmegaConf.to_container(
        composed(), resolve=True
    )


@pytest.mark.parametrize("entry", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_the_configuration_of_every_command_composes(entry: str) -> None:
    assert compose(entry)


@pytest.mark.parametrize("option", options("data"))
def test_a_data_yaml_names_every_argument_of_its_source(option: str) -> None:
    assert_all_arguments_named(composed(f"data={option}").data)


@pytest.mark.parametrize("option", options("augment"))
def test_an_augment_yaml_names_every_argument_and_builds(option: str) -> None:
    config = composed(f"augment={option}")
    assert_all_arguments_named(config.augment)
    built = instantiate(config.augment)
    assert {key: getattr(built, key) for key in keys(config.augment)} == {
        key: config.augment[key] for key in keys(config.augment)
    }


def test_augmentation_flips_images_only_of_data_sets_that_allow_mirroring() -> None:
    for option in set(options("augment")) - {"none"}:
        for data, flip in (("cifar10", True), ("mnist", False)):
            assert composed(f"augment={option}", f"data={data}").augment.flip is flip


def without_budget(model: DictConfig) -> DictConfig:
    """The section `model` without the keys of budget matching, which are not arguments of the network."""
    assert {"match", "match_to"} <= keys(model)
    return OmegaConf.masked_copy(model, [str(key) for key in model if key not in ("match", "match_to")])


@pytest.mark.parametrize("option", options("model"))
def test_a_model_yaml_names_every_argument_and_builds(option: str) -> None:
    model = without_budget(composed(f"model={option}").model)
    assert_all_arguments_named(model)
    if option == "timm":
        pytest.importorskip("timm")
    given = {"in_channels": 3, "num_classes": 10} | ({"image_size": 32} if "image_size" in model else {})
    with torch.device("meta"):
        network = instantiate(model, **given, _convert_="all").eval()
    assert network(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("option", options("schedule"))
def test_a_schedule_yaml_names_every_argument_and_builds(option: str) -> None:
    schedule = composed(f"schedule={option}").schedule
    assert_all_arguments_named(schedule)
    assert 0 < instantiate(schedule, _convert_="all")(0, Clock(10, 10)) <= 1


def test_the_temperature_names_every_argument_of_its_schedule() -> None:
    temperature = composed().temperature
    assert_all_arguments_named(temperature)
    assert instantiate(temperature)(0, Clock(10, 10)) == 30.0


@pytest.mark.parametrize("option", options("conv"))
def test_a_conv_yaml_names_every_argument_that_conv2d_lacks_and_builds(option: str) -> None:
    conv = composed(f"conv={option}").conv
    geometry = set(inspect.signature(nn.Conv2d).parameters)
    arguments = signature(conv._target_)
    assert geometry <= set(arguments)
    assert keys(conv) - {"skip", "unsupported", "bias", "groups"} == set(arguments) - geometry
    assert (conv.bias, conv.groups) == (None, None)  # null: as in the replaced layer
    assert OmegaConf.is_list(conv.skip)
    given: dict[str, Any] = {key: conv[key] for key in keys(conv) - {"skip", "unsupported"}}
    built = conv_factory(conv._target_, **given)(8, 8, 3, padding=1)
    assert built(torch.zeros(2, 8, 5, 5)).shape == (2, 8, 5, 5)


@pytest.mark.parametrize("option", options("conv"))
def test_the_defaults_of_a_conv_class_equal_those_of_its_yaml(option: str) -> None:
    conv = composed(f"conv={option}").conv
    defaults = {
        name: parameter.default
        for name, parameter in signature(conv._target_).items()
        if name in keys(conv) - {"bias", "groups"} and parameter.default is not inspect.Parameter.empty
    }
    assert {name: conv[name] for name in defaults} == defaults


@pytest.mark.parametrize("option", options("optimizer"))
def test_an_optimizer_yaml_is_a_partial_call_that_torch_accepts(option: str) -> None:
    optimizer = composed(f"optimizer={option}").optimizer
    assert optimizer._partial_ is True
    assert keys(optimizer) <= set(signature(optimizer._target_)) - {"params"}
    built = instantiate(optimizer, _convert_="all")([nn.Parameter(torch.zeros(2))])
    assert built.param_groups[0]["lr"] == optimizer.lr


def test_the_dog_cat_bird_experiment_has_the_published_parameter_count() -> None:
    model = without_budget(composed("experiment=dog_cat_bird").model)
    network = instantiate(model, in_channels=3, num_classes=3, _convert_="all")
    assert sum(parameter.numel() for parameter in network.parameters()) == 174_787


def test_the_dynamic_experiment_has_the_published_hyper_parameters() -> None:
    config = composed("experiment=dynamic_resnet18")
    assert (config.model.depth, config.model.dropout, config.batch_size, config.epochs) == (18, 0.1, 128, 40)
    assert (config.optimizer.lr, config.optimizer.momentum) == (0.1, 0.9)
    assert (list(config.schedule.milestones), config.schedule.gamma) == ([0.5, 0.75, 0.85], 0.1)
    assert (config.conv.num_experts, config.conv.reduction, list(config.conv.skip)) == (4, 0.25, ["first"])
    assert (config.temperature.start, config.temperature.end, config.temperature.epochs) == (30, 1, 10)


def test_an_experiment_can_be_overridden_from_the_command_line() -> None:
    config = composed("experiment=dog_cat_bird", "conv=weighted_sum", "model.depth=20", "data=shapes")
    assert config.conv._target_.endswith("WeightedSumConv2d")
    assert config.model.depth == 20
    assert config.data._target_.endswith("Shapes")


def test_every_yaml_begins_with_a_comment() -> None:
    for path in Path(CONF).rglob("*.yaml"):
        first, second = path.read_text().splitlines()[:2]
        line = second if first.startswith("# @package") else first
        assert line.startswith("# "), path
