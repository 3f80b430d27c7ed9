"""Where the data of an existing run are now: the one thing of its configuration that may be given anew."""

from omegaconf import DictConfig

from convbench.errors import UserError


def relocate(config: DictConfig, root: str | None, datasets: str | None) -> None:
    """Change where a run looks for its data; whether they are its data is found out when they are read.

    Args:
        config: of the run, resolved; changed in place.
        root: the folder of its data set; None to leave it.
        datasets: the folder of all data sets: paths of the run's data below the folder it had follow; None to leave it.

    Raises:
        UserError: if the data of the run are not in a folder.
    """
    if datasets is not None:
        before = str(config.datasets).rstrip("/")
        for key, value in config.data.items():
            if isinstance(value, str) and (value == before or value.startswith(f"{before}/")):
                config.data[key] = datasets.rstrip("/") + value[len(before) :]
        config.datasets = datasets
    if root is not None:
        if "root" not in config.data:
            raise UserError("the data of this run are not in a folder, so no other folder can be given (data.root)")
        config.data.root = root
