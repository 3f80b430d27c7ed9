import importlib.util

import pytest
import torch

from convbench.errors import UserError
from convbench.models.from_timm import timm_classifier

HAS_TIMM = importlib.util.find_spec("timm") is not None


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed")
def test_without_timm_the_error_has_the_command_to_install_it() -> None:
    with pytest.raises(UserError, match=r"pip install timm \(model\)$"):
        timm_classifier("resnet18", 10, 3)


@pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")
def test_with_timm_a_network_is_created_by_name_and_the_error_for_an_unknown_name_has_similar_ones() -> None:
    with torch.device("meta"):
        network = timm_classifier("resnet18", 7, 1).eval()
    assert network(torch.empty(2, 1, 64, 64, device="meta")).shape == (2, 7)
    with pytest.raises(UserError, match=r"'resnet19'; .*resnet18.* \(model.name\)$"):
        timm_classifier("resnet19", 10, 3)
