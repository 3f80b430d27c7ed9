"""The validation of configurations: every key has a type and a range, and values outside of them are refused."""

import inspect
import math
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from convbench.config.keys import CONSTRUCTED_GROUPS, KEYS, LIMITS
from convbench.config.kinds import Kind, Limits, kind_of
from convbench.config.options import conf_folder, load_option, options
from convbench.config.resolvers import register_resolvers
from convbench.config.schema import check, kinds_of
from convbench.config.signatures import signature_of
from convbench.errors import UserError

GROUPS = ("data", "conv", "model", "augment", "optimizer", "schedule")
OPTIONS = [(group, option) for group in GROUPS for option in options(group)]
GIVEN = {
    "evaluate": ["run=x"],
    "compare": ["folders=[x]"],
    "apply_kernel": ["image=x"],
}


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield


def composed(*overrides: str, command: str = "train") -> Any:
    root = ["data.root=x"] if "data=folder" in overrides else []
    return compose(command, [*overrides, *root, *GIVEN.get(command, [])])


@cache
def plain(*overrides: str, command: str = "train") -> dict[str, Any]:
    made = OmegaConf.to_container(composed(*overrides, command=command), resolve=True)
    assert isinstance(made, dict)
    return {str(key): value for key, value in made.items()}


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("command", KEYS)
def test_every_key_of_every_command_has_a_kind_that_allows_its_default(command: str) -> None:
    made = plain(command=command)
    kinds = kinds_of(made, command)
    assert set(leaves(made)) <= set(kinds)
    assert {key for key in leaves(made) if kinds[key] is None} == set(), "keys without a type"
    check(composed(command=command), command)


@pytest.mark.parametrize("command", KEYS)
def test_every_entry_of_keys_is_a_key_of_the_command(command: str) -> None:
    assert set(KEYS[command]) == {
        key
        for key in leaves(plain(command=command))
        if key.partition(".")[0] not in (*CONSTRUCTED_GROUPS.get(command, ()), "logger")
    }


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_key_of_every_option_has_a_kind(group: str, option: str) -> None:
    made = plain(f"{group}={option}")
    kinds = kinds_of(made, "train")
    assert {key for key in leaves(made) if kinds.get(key) is None} == set()


def test_every_limit_belongs_to_a_known_key() -> None:
    known = {key for keys in KEYS.values() for key in keys}
    for group, option in OPTIONS:
        target = load_option(group, option, group).get("_target_", "convbench.data.augment.Augment")
        kinds = kinds_of(plain() | {group: {"_target_": target}}, "train")
        known |= {name for key in kinds for name in (key, f"{key} of {target.rpartition('.')[2]}")}
    assert set(LIMITS) <= known


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_a_signature_read_from_the_source_equals_that_of_the_imported_class(group: str, option: str) -> None:
    target = plain(f"{group}={option}")[group]["_target_"]
    read = signature_of(target)
    imported = inspect.signature(get_object(target)).parameters
    assert read is not None
    assert not read.takes_any
    assert set(read.parameters) == set(imported)
    for name, parameter in imported.items():
        assert read.parameters[name].is_required == (parameter.default is inspect.Parameter.empty), name


TYPES = {"bool": bool, "int": int, "float": float, "str": str}


def types_of(annotation: Any) -> set[Any]:
    """The Python types that an annotation allows in a yaml file; `list` for any sequence."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) not in (Sequence, tuple, list) else ()
    if parts:
        return set().union(*map(types_of, parts))
    is_list = typing.get_origin(annotation) is not None
    return {list} if is_list else {annotation} & {bool, int, float, str, type(None)}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_kinds_agree_with_the_annotations_of_the_constructors(group: str, option: str) -> None:
    import collections.abc

    made = plain(f"{group}={option}")
    target = made[group]["_target_"]
    for name, parameter in inspect.signature(get_object(target)).parameters.items():
        kind = kinds_of(made, "train").get(f"{group}.{name}")
        if kind is None or f"{group}.{name}" in ("conv.bias", "conv.groups") or group == "model":
            continue  # the yaml files allow null for values that are filled in from the layer or from the data
        origin = typing.get_origin(parameter.annotation)
        found = types_of(parameter.annotation) if origin is not collections.abc.Sequence else {list}
        allowed = {TYPES[scalar] for scalar in kind.scalars} | ({list} if kind.items else set())
        allowed |= {type(None)} if kind.is_optional else set()
        assert allowed == {t for t in found if t is not collections.abc.Sequence}, name


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["seed=-1"], "seed"),
        (["seed=1.5"], "seed"),
        (["seed=null"], "seed"),
        (["seed=[1]"], "seed"),
        (["seed=9223372036854775808"], "seed"),
        (["epochs=0"], "epochs"),
        (["epochs=true"], "epochs"),
        (["epochs=1" + 30 * "0"], "epochs"),
        (["batch_size=2.0"], "batch_size"),
        (["label_smoothing=1.0"], "label_smoothing"),
        (["temperature.start=0"], "temperature.start"),
        (["temperature.epochs=nan"], "temperature.epochs"),
        (["optimizer.lr=nan"], "optimizer.lr"),
        (["optimizer.lr=inf"], "optimizer.lr"),
        (["optimizer.lr=1e"], "optimizer.lr"),
        (["optimizer.momentum=1"], "optimizer.momentum"),
        (["optimizer.nesterov=3"], "optimizer.nesterov"),
        (["optimizer=adamw", "optimizer.betas=[0.9]"], "optimizer.betas"),
        (["optimizer=adamw", "optimizer.betas=[0.9,1.0]"], "optimizer.betas"),
        (["schedule.warmup_epochs=-1"], "schedule.warmup_epochs"),
        (["schedule=step", "schedule.milestones=[0.5,1.5]"], "schedule.milestones"),
        (["engine.device=gpu"], "engine.device"),
        (["engine.compile=1"], "engine.compile"),
        (["engine.threads=0"], "engine.threads"),
        (["data.val=inf"], "data.val"),
        (["data.seed=-1"], "data.seed"),
        (["data.mean=[nan,0,0]", "data.std=[1,1,1]"], "data.mean"),
        (["augment.flip=[[1,2],[3]]"], "augment.flip"),
        (["augment.padding_mode=3"], "augment.padding_mode"),
        (["conv.skip=0"], "conv.skip"),
        (["conv.skip=[1]"], "conv.skip"),
        (["conv.bias=3"], "conv.bias"),
        (["conv._target_=nodots"], "conv._target_"),
        (["schedule._target_=../.."], "schedule._target_"),
        (["conv.groups=0"], "conv.groups"),
        (["conv=weight_standardised", "conv.scaled=0.5"], "conv.scaled"),
        (["conv=involution", "conv.reduction=0.5"], "conv.reduction"),
        (["model.widths=[0]"], "model.widths"),
        (["model.depth=3.5"], "model.depth"),
        (["model.match=flops"], "model.match"),
        (["model.match_to=flops"], "model.match_to"),
        (["model.dropout=1"], "model.dropout"),
        (["resume=[]"], "resume"),
        (["datasets=[3]"], "datasets"),
        (["datasets=''"], "datasets"),
        (["optimizer.momentum=0"], "optimizer.nesterov"),
        (["+loss=focal"], "loss"),
        (["+engine.clip=1.0"], "engine.clip"),
        (["++early_stopping=3"], "early_stopping"),
        (["+optimizer.betas=[0.9,0.95]"], "~optimizer.betas"),
        (["+conv.my_arg=1"], "conv.my_arg"),
        (["+conv.stride=2"], "conv.stride"),
        (["optimizer._target_=torch.optim.Adam"], "~optimizer.momentum ~optimizer.nesterov"),
        (["~epochs"], "epochs"),
        (["~conv.skip"], "conv.skip"),
        (["~model.depth"], "model.depth"),
        (["~temperature"], "temperature"),
        (["temperature=null"], "temperature"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_and_the_message_names_the_key(overrides: list[str], key: str) -> None:
    with pytest.raises(UserError) as caught:
        check(composed(*overrides), "train")
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=9223372036854775807"],
        ["label_smoothing=0"],
        ["optimizer.lr=1"],
        ["optimizer.momentum=0", "optimizer.nesterov=false"],
        ["optimizer=adamw", "optimizer.betas=[0.9,0.95]", "+optimizer.eps=1e-6"],
        [
            "optimizer._target_=torch.optim.Adam",
            "~optimizer.momentum",
            "~optimizer.nesterov",
            "+optimizer.betas=[0,0.9]",
        ],
        ["engine.threads=1"],
        ["conv.bias=true", "conv.groups=2", "conv.skip=[first,1x1]"],
        ["conv._target_=my_package.MyConv2d", "+conv.my_arg=anything"],
        ["conv._target_=torch.nn.Conv2d"],
        ["data.mean=[0,0,0]", "data.std=[1,1,1]"],
        ["model.match=params", "model.match_to=dynamic"],
    ],
)
def test_an_allowed_value_passes_the_check(overrides: list[str]) -> None:
    check(composed(*overrides), "train")


def test_the_arguments_of_a_users_class_are_read_from_its_source(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_of_the_schema.py").write_text(
        "import no_such_module\nfrom torch import nn\n"
        "class Mine(nn.Conv2d):\n    def __init__(self, in_channels, gain=1): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "conv._target_=mine_of_the_schema.Mine"
    check(composed(own, "+conv.gain=[1,2]"), "train")
    with pytest.raises(UserError, match=r"gian.*conv\.gain"):
        check(composed(own, "+conv.gian=1"), "train")


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        (Kind(frozenset({"int"}), limits=Limits(low=1)), 1, True),
        (Kind(frozenset({"int"}), limits=Limits(low=1)), True, False),
        (Kind(frozenset({"int"})), 10**30, False),
        (Kind(frozenset({"float"})), 1, True),
        (Kind(frozenset({"float"})), math.nan, False),
        (Kind(frozenset({"float"}), limits=Limits(0, 1, low_open=True)), 0, False),
        (Kind(frozenset({"float"}), limits=Limits(0, 1, high_open=True)), 1.0, False),
        (Kind(limits=Limits(choices=("auto", True, False))), 1, False),
        (Kind(limits=Limits(choices=("auto", True, False))), True, True),
        (Kind(is_optional=True), None, True),
        (Kind(frozenset({"str"})), "", False),
        (kind_of("Sequence[Sequence[float]]"), [[1, 2.5], []], True),
        (kind_of("Sequence[Sequence[float]]"), [[1, "a"]], False),
        (kind_of("Sequence[str]"), "first", False),
        (kind_of("tuple[float | Tensor, float | Tensor]"), [0.1, 0.2], True),
        (kind_of("tuple[float | Tensor, float | Tensor]"), [0.1], False),
        (kind_of("Sequence[int] | None", Limits(low=1, lengths=(1, 2))), [1, 0], False),
        (kind_of("Sequence[int] | None", Limits(low=1, lengths=(1, 2))), [1, 1, 1], False),
    ],
)
def test_a_kind_allows_values_of_its_type_within_its_limits(kind: Kind, value: Any, allowed: bool) -> None:
    assert kind.allows(value) is allowed
