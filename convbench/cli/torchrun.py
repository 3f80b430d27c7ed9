"""What torchrun tells the processes that it starts, before PyTorch is loaded."""

from convbench.config.options import environment


def world_size() -> int:
    """The number of processes that torchrun has started for one run; 1 without torchrun."""
    return int(environment("WORLD_SIZE", "1"))


def rank() -> int:
    """The rank of this process; process 0 alone prints and writes."""
    return int(environment("RANK", "0"))
