"""The factory of convolutions from the keys of a yaml, and the errors for wrong keys."""

import sys
from typing import Any

import pytest
import torch
from torch import nn

from convbench.convs.dynamic import DynamicConv2d
from convbench.convs.factory import conv_factory
from convbench.convs.standard import StandardConv2d
from convbench.errors import UserError
from tests.convs.catalogue import CLASSES, YAMLS

WEIGHTED_SUM = "convbench.convs.weighted_sum.WeightedSumConv2d"


class OwnConv2d(nn.Conv2d):
    """A user's class with the constructor of nn.Conv2d."""


class RankConv2d(nn.Conv2d):
    """A user's class with a further argument that has no default."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
                 dilation: int = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Any = None, *, rank: int) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.rank = rank


class AnyConv2d(nn.Conv2d):
    """A user's class that passes all arguments on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class NoPaddingModeConv2d(nn.Module):
    """A user's class whose constructor lacks arguments of nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__()


@pytest.mark.parametrize("name", YAMLS)
def test_the_factory_of_every_yaml_creates_its_class(name: str) -> None:
    arguments = {key: value for key, value in YAMLS[name].items() if key not in ("_target_", "skip", "unsupported")}
    conv = conv_factory(YAMLS[name]["_target_"], **arguments)(8, 8, 3, 1, 1, bias=False)
    assert type(conv) is CLASSES[name]
    assert (conv.in_channels, conv.out_channels, conv.stride, conv.bias) == (8, 8, (1, 1), None)


@pytest.mark.parametrize(("given", "bias", "groups"), [({}, False, 1), ({"bias": True, "groups": 2}, True, 2)])
def test_bias_and_groups_override_the_layer_only_where_given(given: dict[str, Any], bias: bool, groups: int) -> None:
    conv = conv_factory(StandardConv2d, **{"bias": None, "groups": None, **given})(4, 8, 3, bias=False)
    assert isinstance(conv, StandardConv2d)
    assert (conv.bias is not None, conv.groups) == (bias, groups)


def test_the_geometry_may_be_given_by_position() -> None:
    conv = conv_factory(StandardConv2d, groups=4)(4, 8, 3, 2, 1, 1, 2, False)
    assert isinstance(conv, StandardConv2d)
    assert (conv.stride, conv.groups, conv.bias) == ((2, 2), 4, None)


def test_further_arguments_are_passed_to_the_class() -> None:
    conv = conv_factory(DynamicConv2d, num_experts=2, temperature=5.0)(4, 8, 3)
    assert isinstance(conv, DynamicConv2d)
    assert conv.num_experts == 2
    assert conv.temperature == torch.tensor(5.0)


@pytest.mark.parametrize("conv_class", [OwnConv2d, AnyConv2d])
def test_a_users_class_works_by_its_path_with_the_keys_of_another_yaml(conv_class: type[nn.Module]) -> None:
    conv = conv_factory(f"{__name__}.{conv_class.__name__}", implementation="library", bias=None, groups=None)(4, 8, 3)
    assert type(conv) is conv_class


@pytest.mark.parametrize(
    ("target", "arguments", "facts"),
    [
        ("MyConv2d", {}, r"'MyConv2d' .*\(conv\._target_\)"),
        ("no_such.MyConv2d", {}, r"'no_such.MyConv2d' .*No module named 'no_such' \(conv\._target_\)"),
        ("torch.nn.Conv9d", {}, r"'torch.nn.Conv9d' .*no attribute 'Conv9d' \(conv\._target_\)"),
        ("os.path.join", {}, r"'os.path.join' .*torch\.nn\.Module \(conv\._target_\)"),
        ("builtins.dict", {}, r"'builtins.dict' .*torch\.nn\.Module \(conv\._target_\)"),
        (
            WEIGHTED_SUM,
            {"num_expert": 4},
            r"WeightedSumConv2d .*'num_expert'; .*implementation, bias or groups \(conv.num_expert\)",
        ),
        (WEIGHTED_SUM, {"stride": 2}, r"stride .*\(conv.stride\)"),
        (RankConv2d, {}, r"RankConv2d .*'rank' \(conv.rank\)"),
        (
            NoPaddingModeConv2d,
            {},
            r"NoPaddingModeConv2d .*stride, padding, dilation, groups, padding_mode, device or dtype; "
            r".*\(conv\._target_\)",
        ),
    ],
)
def test_the_error_for_a_wrong_target_or_argument_has_the_value_the_choices_and_the_key(
    target: Any, arguments: dict[str, Any], facts: str
) -> None:
    with pytest.raises(UserError, match=f"^{facts}$"):
        conv_factory(target, **arguments)


def test_an_import_error_inside_the_module_of_the_class_is_in_the_message(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written.py").write_text("import not_installed_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'half_written\.Conv' .*No module named 'not_installed_at_all'"):
        conv_factory("half_written.Conv")
    assert "half_written" not in sys.modules
