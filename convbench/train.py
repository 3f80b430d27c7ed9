"""`python -m convbench.train`: train a network with a chosen convolution and write a run folder.

The package `convbench.experiment` does the work; `convbench.sweeps` decides what remains to be done for a job of a
sweep. This module imports no PyTorch.
"""

import logging
import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from convbench.cli.main import run_command
from convbench.config import torchrun
from convbench.experiment.lifecycle import execute_run, resume_run, start_run
from convbench.run_folders.run_folder import RunFolder
from convbench.sweeps.jobs import run_job

log = logging.getLogger("convbench")


def train(config: DictConfig) -> float | None:
    """Train one configuration, or resume the run that `resume` names; `results.json` always records how it ended.

    Returns:
        The best validation accuracy in [0, 1], which a search for hyper-parameters maximises; None if there is none.
    """
    if torchrun.rank() != 0:
        log.setLevel(logging.ERROR)  # only process 0 prints
    hydra = HydraConfig.get()
    # The path is relative to the working folder, so that messages show it as it would be typed.
    folder = RunFolder(os.path.relpath(hydra.runtime.output_dir), writes=torchrun.rank() == 0)
    if hydra.mode is RunMode.MULTIRUN:
        return run_job(config, folder)
    with folder.lock():
        if config.resume:
            config, folder = resume_run(config)
        else:
            start_run(config, folder)
        execute_run(config, folder)
    return folder.record.best_accuracy


if __name__ == "__main__":
    run_command("train", train)
