import importlib.util

import pytest
import torch

from convbench.errors import UserError
from convbench.models.from_timm import timm_classifier

HAS_TIMM = importlib.util.find_spec("timm") is not None


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed")
def test_without_timm_it_says_what_to_install() -> None:
    with pytest.raises(UserError, match=r"model=timm needs timm, which is not installed: pip install timm \(model\)"):
        timm_classifier("resnet18", 10, 3)


@pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")
def test_with_timm_a_network_comes_by_name_and_an_unknown_one_is_told_some_there_are() -> None:
    with torch.device("meta"):
        network = timm_classifier("resnet18", 7, 1).eval()
    assert network(torch.empty(2, 1, 64, 64, device="meta")).shape == (2, 7)
    with pytest.raises(UserError, match=r"timm has no network 'resnet19'; those most like it: .*resnet18"):
        timm_classifier("resnet19", 10, 3)
