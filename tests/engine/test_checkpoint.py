import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from convbench.convs.deformable import DeformableConv2d
from convbench.engine import checkpoint
from convbench.engine.optimizers import build_optimizer
from convbench.engine.schedules import Anneal, Clock, Constant
from convbench.engine.step import TrainStep
from convbench.errors import UserError

CPU = torch.device("cpu")


def train_step(seed: int = 0, offset_rate: float = 0.1) -> TrainStep:
    torch.manual_seed(seed)
    conv = DeformableConv2d(3, 2, 1, offset_rate=offset_rate)  # has two learning rates
    layers = [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)]
    network = nn.Sequential(conv, nn.Flatten(), *layers)
    factory = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    optimizer = build_optimizer(factory, network, CPU)
    return TrainStep(
        network, optimizer, nn.CrossEntropyLoss(), Constant(), Anneal(), Clock(2, 5), precision="none", device=CPU
    )


def batch(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(index)
    return torch.randn(6, 3, 2, 2, generator=generator), torch.randint(0, 3, (6,), generator=generator)


def test_training_from_a_restored_checkpoint_is_bit_identical_to_uninterrupted_training(tmp_path: Path) -> None:
    step = train_step()
    for index in range(3):
        step(index, *batch(index))
    checkpoint.save(checkpoint.training_state(step), tmp_path / "last.pt")
    for index in range(3, 6):
        step(index, *batch(index))
    other = train_step(seed=1)
    checkpoint.restore_training_state(other, checkpoint.load(tmp_path / "last.pt", CPU))
    for index in range(3, 6):
        other(index, *batch(index))
    for name, value in step.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    assert step.meter.read() == other.meter.read()


def test_a_checkpoint_with_other_parameter_groups_is_refused(tmp_path: Path) -> None:
    step = train_step(offset_rate=1.0)
    step(0, *batch(0))
    checkpoint.save(checkpoint.training_state(step), tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"parameter groups.*\(resume\)$"):
        checkpoint.restore_training_state(train_step(), checkpoint.load(tmp_path / "last.pt", CPU))


def test_a_checkpoint_can_be_loaded_with_weights_only(tmp_path: Path) -> None:
    step = train_step()
    step(0, *batch(0))
    path = tmp_path / "checkpoints" / "last.pt"  # save() creates the folder
    checkpoint.save(checkpoint.training_state(step), path)
    state = torch.load(path, weights_only=True)
    assert set(state) == {"network", "optimizer", "scaler", "meter", "rng", "others"}


def test_a_save_that_fails_keeps_the_old_checkpoint_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save({"epoch": 1}, path)

    class Unsavable:
        def __reduce__(self) -> str:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        checkpoint.save({"weights": torch.zeros(1000), "rest": Unsavable()}, path)
    assert checkpoint.load(path, CPU) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_save_replaces_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for epoch in (1, 2):
        checkpoint.save({"epoch": epoch}, path)
    assert checkpoint.load(path, CPU) == {"epoch": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_the_error_for_a_missing_checkpoint_contains_its_path(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(UserError, match=re.escape(f"there is no checkpoint {path}")):
        checkpoint.load(path, CPU)


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated"])
def test_the_error_for_an_unreadable_checkpoint_contains_its_path(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "best.pt"
    checkpoint.save({"weights": torch.zeros(1000)}, path)
    content = {"garbage": b"not a checkpoint", "empty": b"", "truncated": path.read_bytes()[:-500]}[damage]
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path} cannot be read")):
        checkpoint.load(path, CPU)


def test_a_checkpoint_that_contains_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({"network": nn.Linear(2, 2)}, path)  # a pickled module
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(path, CPU)
