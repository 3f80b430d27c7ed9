"""`python -m convbench.train`: compose, train, and leave a run folder that says everything about it."""

import logging
import os
import shlex
import time
import traceback

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from convbench.cli import torchrun
from convbench.cli.main import run_command
from convbench.config.naming import config_hash, conv_name
from convbench.config.options import GROUPS
from convbench.config.relocation import relocate
from convbench.config.schema import check
from convbench.engine.interrupt import pass_on, sigterm_interrupts
from convbench.errors import UserError, find_user_error, reason
from convbench.files import write_text
from convbench.run_folders.folder import RunFolder, now
from convbench.run_folders.locking import InUseError
from convbench.run_folders.provenance import code_digest, versions
from convbench.sweeps.gpu_locks import acquire_gpu
from convbench.sweeps.jobs import has_failed_job, next_action

log = logging.getLogger("convbench")


def train(config: DictConfig) -> float | None:
    """Train one configuration, or go on with the run that `resume` names; `results.json` always says how it ended.

    Returns:
        The best validation accuracy, which a search for hyper-parameters goes by; None if there is none.
    """
    if torchrun.rank() != 0:
        log.setLevel(logging.ERROR)  # one voice is enough
    hydra = HydraConfig.get()
    place = RunFolder(os.path.relpath(hydra.runtime.output_dir), torchrun.rank() == 0)  # as a person would type it
    is_job = hydra.mode is RunMode.MULTIRUN
    try:
        with place.lock():
            if is_job:
                return _sweep_job(config, place)
            if config.resume:
                return _train_run(*_resumed(config))
            if place.writes and place.results_path.exists():
                raise UserError(
                    f"{place.path} holds a run already: resume={place.path} goes on with it (hydra.run.dir)"
                )
            return _train_run(config, _started(config, place))
    except InUseError as error:
        if not is_job:
            raise
        log.info("left alone: %s", error)
        return None


def _sweep_job(config: DictConfig, folder: RunFolder) -> float | None:
    """A job of a sweep: do what is left of it."""
    todo = next_action(folder, config.sweep.retry_failed)
    if todo != "start":
        folder = RunFolder.open(folder.path, "sweep")
    if todo == "leave":
        log.info("%s already: %s", folder.results["status"], folder.path)
        return _objective(folder)
    if config.sweep.fail_fast and has_failed_job(folder.path.parent):
        log.info("not started, for another job has failed (sweep.fail_fast): %s", folder.path)
        return None
    if todo == "go on":
        folder.update_results(status="running", error=None)
        earlier = folder.read_config()
        relocate(earlier, config.data.get("root"), config.datasets)
        return _train_run(earlier, folder)
    folder.clear()
    return _train_run(config, _started(config, folder))


def _train_run(config: DictConfig, folder: RunFolder) -> float | None:
    """Train, and write down how it ended."""
    has_begun = folder.last_checkpoint.exists()
    began = time.perf_counter() - folder.results.get("seconds_total", 0.0)
    log.info(
        "convbench: %s", " ".join(f"{group}={folder.results[group]}" for group in ("data", "conv", "model", "seed"))
    )
    try:
        with sigterm_interrupts():
            check(config, "train")
            _share_gpus(config)

            from convbench.experiment.run import TrainingRun  # PyTorch: seconds, so after the first line

            is_stopped = TrainingRun(config, folder, began).execute()
        folder.update_results(ended_at=now())
    except (KeyboardInterrupt, SystemExit) as stop:  # a signal; a batch system that wants its machine back
        _end(folder, "interrupted", "stopped by a signal", began)
        log.info("interrupted; go on with: python -m convbench.train resume=%s", shlex.quote(str(folder.path)))
        pass_on(stop)
        raise
    except BaseException as error:
        name = "traceback.txt" if folder.writes else f"traceback_{torchrun.rank()}.txt"
        write_text(folder.path / name, traceback.format_exc())
        # What a person can mend, such as data that are not found, is no reason to give up the epochs that were done.
        is_mendable = has_begun and find_user_error(error) is not None
        _end(folder, "interrupted" if is_mendable else "failed", reason(error), began)
        raise
    if is_stopped and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise KeyboardInterrupt  # the run is finished; the sweep shall not go on
    return _objective(folder)


def _share_gpus(config: DictConfig) -> None:
    """Take a GPU for a job of joblib, which knows nothing of GPUs; Slurm and Ray hand them out themselves."""
    launcher = HydraConfig.get().launcher
    is_beside_others = HydraConfig.get().mode is RunMode.MULTIRUN and launcher._target_.endswith("JoblibLauncher")
    if is_beside_others and config.engine.device in ("auto", "cuda"):
        acquire_gpu(launcher.n_jobs)


def _started(config: DictConfig, folder: RunFolder) -> RunFolder:
    """The folder of a new run, with what is known before anything is built."""
    hydra = HydraConfig.get()
    folder.write_config(config)
    folder.update_results(
        status="running",
        error=None,
        config_hash=config_hash(config),
        variant_hash=config_hash(config, leave_out=("seed",)),
        command=shlex.join(["python", "-m", "convbench.train", *_own(hydra.overrides.task)]),
        choices={group: hydra.runtime.choices[group] for group in GROUPS},
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
        began_at=now(),
        ended_at=None,
        code=code_digest(),
        versions=versions(),
    )
    return folder


def _own(overrides: list[str]) -> list[str]:
    """What makes this run again, outside of its sweep."""
    return [word for word in overrides if not word.startswith(("sweep.", "launcher=", "search="))]


def _resumed(config: DictConfig) -> tuple[DictConfig, RunFolder]:
    """The configuration and folder of the run to go on with; its data may be in another place by now.

    Raises:
        UserError: if it is no run, is finished, or another key was given beside `resume`.
    """
    given = {override: override.partition("=")[0] for override in HydraConfig.get().overrides.task}
    is_moved = "data.root" in given.values()
    places = {"resume", "datasets", "data.root"} | ({"data"} if is_moved else set())  # without it there is no data.root
    others = [override for override, key in given.items() if key not in places]
    if others:
        raise UserError(
            f"a resumed run keeps its own configuration, so {' '.join(others)} cannot be given beside resume=FOLDER; "
            f"only the place of its data can (data.root, datasets)"
        )
    folder = RunFolder.open(config.resume, "resume", torchrun.rank() == 0)
    if folder.results["status"] == "finished":
        raise UserError(f"{config.resume} is finished, there is nothing to resume (resume)")
    earlier = folder.read_config()
    relocate(
        earlier,
        config.data.root if is_moved else None,
        config.datasets if "datasets" in given.values() else None,
    )
    folder.update_results(status="running", error=None)
    return earlier, folder


def _objective(folder: RunFolder) -> float | None:
    best = folder.results.get("best")
    return best["val"]["accuracy"] if best else None


def _end(folder: RunFolder, status: str, error: str, began: float) -> None:
    folder.update_results(status=status, error=error, ended_at=now(), seconds_total=time.perf_counter() - began)


if __name__ == "__main__":
    run_command("train", train)
