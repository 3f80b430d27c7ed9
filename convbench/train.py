"""`python -m convbench.train`: compose, train, and leave a run folder that says everything about it."""

import logging
import os
import platform
import shlex
import time
import traceback
from importlib.metadata import version

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from convbench import cli
from convbench.config import check, config_hash, conv_name
from convbench.engine.interrupt import sigterm_interrupts
from convbench.errors import UserError
from convbench.logs.files import RunFolder

log = logging.getLogger("convbench")


def train(config: DictConfig) -> None:
    """Train one configuration, or go on with the run that `resume` names; `results.json` always says how it ended."""
    if cli.rank() != 0:
        log.setLevel(logging.ERROR)  # one voice is enough
    config, folder = _resumed(config) if config.resume else (config, _started(config))
    began = time.perf_counter() - folder.results.get("seconds_total", 0.0)
    log.info(
        "convbench: %s", " ".join(f"{group}={folder.results[group]}" for group in ("data", "conv", "model", "seed"))
    )
    try:
        with sigterm_interrupts():
            check(config)
            from convbench.run import Run  # PyTorch and all that stands on it: seconds, so after the first line

            Run(config, folder, began).carry_out()
    except KeyboardInterrupt:
        _end(folder, "interrupted", "stopped by a signal", began)
        log.info("interrupted; go on with: python -m convbench.train resume=%s", shlex.quote(str(folder.path)))
        raise
    except BaseException as error:
        user_error = cli.find_user_error(error)
        if user_error is None:
            name = "traceback.txt" if folder.writes else f"traceback_{cli.rank()}.txt"
            (folder.path / name).write_text(traceback.format_exc())
        _end(folder, "failed", str(user_error or f"{type(error).__name__}: {error}"), began)
        raise


def _started(config: DictConfig) -> RunFolder:
    """The folder of a new run, with what is known before anything is built.

    Raises:
        UserError: if it holds a run already, whose files would be mixed with the new ones.
    """
    hydra = HydraConfig.get()
    folder = RunFolder(os.path.relpath(hydra.runtime.output_dir), cli.rank() == 0)  # as a person would type it
    if folder.writes and folder.results_path.exists():
        raise UserError(f"{folder.path} holds a run already: resume={folder.path} goes on with it (hydra.run.dir)")
    folder.write_config(config)
    folder.update_results(
        status="running",
        error=None,
        config_hash=config_hash(config),
        command=shlex.join(["python", "-m", "convbench.train", *hydra.overrides.task]),
        data=hydra.runtime.choices["data"],
        conv=conv_name(config, hydra.runtime.choices["conv"]),
        model=hydra.runtime.choices["model"],
        seed=config.seed,
        epochs=config.epochs,
        epochs_done=0,
        train=None,
        val=None,
        best=None,
        test=None,
        versions={name: version(name) for name in ("convbench", "torch", "torchvision", "hydra-core")}
        | {"python": platform.python_version()},
    )
    return folder


def _resumed(config: DictConfig) -> tuple[DictConfig, RunFolder]:
    """The configuration and folder of the run to go on with.

    Raises:
        UserError: if it is no run, is finished, or another key was given beside `resume`.
    """
    others = [override for override in HydraConfig.get().overrides.task if not override.startswith("resume=")]
    if others:
        raise UserError(
            f"a resumed run keeps its own configuration, so {' '.join(others)} cannot be given beside resume=FOLDER"
        )
    folder = RunFolder.open(config.resume, "resume", cli.rank() == 0)
    if folder.results["status"] == "finished":
        raise UserError(f"{config.resume} is finished, there is nothing to resume (resume)")
    folder.update_results(status="running", error=None)
    return folder.read_config(), folder


def _end(folder: RunFolder, status: str, error: str, began: float) -> None:
    folder.update_results(status=status, error=error, seconds_total=time.perf_counter() - began)


if __name__ == "__main__":
    cli.run("train", train)
