"""Saving, determinism and memory format of a convolution."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convbench.examination.reproducibility import channels_last, determinism, state
from convbench.examination.subject import Finding, Subject
from convbench.examination.suite import examine
from tests.examination.subjects import subject_of, verdicts


class IncompleteStateConv2d(nn.Conv2d):
    """Its `state_dict` lacks the parameter `scale`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(self.weight.new_ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if not key.endswith("scale")}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class ViewingConv2d(nn.Conv2d):
    """It calls `view`, which raises an error in the memory format channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1).view(x.shape))


class RandomConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1e-3 * torch.rand_like(x))


class ChannelsFirstConv2d(nn.Conv2d):
    """Its output always has the memory format channels_first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


@pytest.mark.parametrize("examination", [state, determinism, channels_last])
def test_the_standard_convolution_passes(examination: Callable[[Subject], Iterator[Finding]]) -> None:
    (finding,) = examination(subject_of(nn.Conv2d))
    assert finding.verdict == "PASS"


@pytest.mark.parametrize(
    ("kind", "examination", "expected"),
    [
        (IncompleteStateConv2d, state, {"state_dict": "FAIL"}),
        (RandomConv2d, determinism, {"determinism": "WARN"}),
        (ChannelsFirstConv2d, channels_last, {"channels_last": "WARN"}),
    ],
)
def test_a_faulty_convolution_is_found(
    kind: type[nn.Module], examination: Callable[[Subject], Iterator[Finding]], expected: dict[str, str]
) -> None:
    assert verdicts(examination(subject_of(kind))) == expected


def test_a_convolution_that_raises_an_error_in_channels_last_fails() -> None:
    found = verdicts(examine(subject_of(ViewingConv2d)))
    assert found["channels_last"] == "FAIL"
