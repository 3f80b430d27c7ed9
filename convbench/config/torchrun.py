"""The environment variables that torchrun sets for each process; readable without PyTorch."""

from convbench.config.options import environment


def world_size() -> int:
    """The number of processes that torchrun started for one run; 1 without torchrun."""
    return int(environment("WORLD_SIZE", "1"))


def rank() -> int:
    """The rank of this process; only process 0 prints and writes the run folder."""
    return int(environment("RANK", "0"))
