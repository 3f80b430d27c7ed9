"""Inputs and outputs of training runs that several tests need."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# Stops a run with an error in its second epoch of four steps, unless the environment variable CONTINUE is set.
STOPPING_CONV = """
import os
from torch import nn

class Stopping(nn.Conv2d):
    steps = 0

    def forward(self, x):
        if self.training and x.requires_grad:
            self.steps += 1
            if self.steps == 6 and "CONTINUE" not in os.environ:
                raise RuntimeError("stopped")
        return super().forward(x)
"""


def write_pictures(root: Path) -> Path:
    """Write two classes of 20 random images each, 16x16 pixels, and return the folder."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for index in range(20):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(root / name / f"{index:02}.png")
    return root


def read_metrics(folder: Path) -> list[dict]:
    """The rows of `metrics.jsonl`."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_weights(first: Path, second: Path) -> None:
    """Assert that the last checkpoints of two runs have identical weights and momentum buffers."""
    a, b = (torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["training"] for folder in (first, second))
    assert a["network"].keys() == b["network"].keys()
    for name, value in a["network"].items():
        assert torch.equal(value, b["network"][name]), name
    for mine, other in zip(a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True):
        assert torch.equal(mine["momentum_buffer"], other["momentum_buffer"])
