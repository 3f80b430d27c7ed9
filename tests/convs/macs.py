"""Multiply-accumulate operations of a layer, counted by `FlopCounterMode`."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from convbench.convs.base import Conv2dBase


def macs(conv: Conv2dBase, size: tuple[int, int] = (8, 8)) -> int:
    """Count the operations for one image of this (height, width), on meta tensors."""
    conv = copy.deepcopy(conv).to("meta")
    conv.use(conv.reference_implementation)
    with FlopCounterMode(display=False) as counter:
        conv(torch.empty(1, conv.in_channels, *size, device="meta"))
    return counter.get_total_flops() // 2
