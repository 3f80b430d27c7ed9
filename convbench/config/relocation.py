"""The new location of the data of an existing run: the only part of its configuration that can be changed."""

from omegaconf import DictConfig

from convbench.errors import UserError


def relocate(config: DictConfig, root: str | None, datasets: str | None) -> None:
    """Change where a run reads its data; that they are the same data is verified later, when they are read.

    Args:
        config: the resolved configuration of the run, changed in place.
        root: the folder of the data set; None to keep it.
        datasets: the folder that contains all data sets; None to keep it. Paths of the data set that lie below the
            previous folder are moved to the new one.

    Raises:
        UserError: if `root` is given, but the data set of the run has no such key.
    """
    if datasets is not None:
        before = str(config.datasets).rstrip("/")
        for key, value in config.data.items():
            if isinstance(value, str) and (value == before or value.startswith(f"{before}/")):
                config.data[key] = datasets.rstrip("/") + value[len(before) :]
        config.datasets = datasets
    if root is not None:
        if "root" not in config.data:
            raise UserError("the data set of this run is not a folder, so its folder cannot be changed (data.root)")
        config.data.root = root
