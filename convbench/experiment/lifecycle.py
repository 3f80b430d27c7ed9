"""The life of a run folder: a run is started or resumed, it trains, and `results.json` records how it ended.

Importing this module does not load PyTorch: `execute_run` prints the first line of a run before the seconds that this
import takes.
"""

import logging
import shlex
import time
import traceback
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from convbench.config import torchrun
from convbench.config.naming import config_hash, conv_name
from convbench.config.options import GROUPS
from convbench.config.relocation import relocate
from convbench.config.schema import check
from convbench.engine.interrupt import call_batch_handler, sigterm_interrupts
from convbench.errors import UserError, find_user_error, reason
from convbench.files import write_text
from convbench.run_folders.provenance import code_digest, versions
from convbench.run_folders.run_folder import RunFolder, now

log = logging.getLogger("convbench")

# Overrides that place a job in a sweep; the command that reproduces the job does not need them.
_SWEEP_OVERRIDES = ("sweep.", "launcher=", "search=")


def start_run(config: DictConfig, folder: RunFolder) -> None:
    """Write the configuration of a new run, and the results that are known before anything is built.

    Raises:
        UserError: if the folder already contains a run.
    """
    if folder.writes and folder.results_path.exists():
        raise UserError(f"{folder.path} already contains a run: resume={folder.path} continues it (hydra.run.dir)")
    hydra = HydraConfig.get()
    overrides = [word for word in hydra.overrides.task if not word.startswith(_SWEEP_OVERRIDES)]
    folder.write_config(config)
    folder.update_results(
        status="running",
        error=None,
        config_hash=config_hash(config),
        variant_hash=config_hash(config, leave_out=("seed",)),
        command=shlex.join(["python", "-m", "convbench.train", *overrides]),
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


def resume_run(config: DictConfig) -> tuple[DictConfig, RunFolder]:
    """The configuration and the folder of the run that `config.resume` names.

    Raises:
        UserError: if the folder is not a run folder, the run is finished, or the command line gives keys other than
            `resume` and the location of the data.
    """
    given = {override: override.partition("=")[0] for override in HydraConfig.get().overrides.task}
    is_moved = "data.root" in given.values()
    allowed = {"resume", "datasets", "data.root"} | ({"data"} if is_moved else set())  # data.root requires data=folder
    refused = [override for override, key in given.items() if key not in allowed]
    if refused:
        raise UserError(
            f"a resumed run keeps its own configuration, so {' '.join(refused)} cannot be given with resume=FOLDER; "
            f"only the location of its data can be changed (data.root, datasets)"
        )
    folder = RunFolder.open(config.resume, "resume", torchrun.rank() == 0)
    if folder.results["status"] == "finished":
        raise UserError(f"{config.resume} is finished, so it cannot be resumed (resume)")
    recorded = folder.read_config()
    relocate(
        recorded,
        config.data.root if is_moved else None,
        config.datasets if "datasets" in given.values() else None,
    )
    folder.update_results(status="running", error=None)
    return recorded, folder


def execute_run(config: DictConfig, folder: RunFolder, select_gpu: Callable[[], object] | None = None) -> bool:
    """Train, test, and record in `results.json` how the run ended.

    Args:
        config: the configuration of the run.
        folder: the folder of the run, which contains this configuration and the results of `start_run`.
        select_gpu: called before PyTorch is loaded, in order to restrict this process to one GPU.

    Returns:
        Whether a signal asked to stop too late for this run, so that whatever follows it has to be stopped.

    Raises:
        KeyboardInterrupt: if a signal stopped the run; it is recorded as interrupted.
        SystemExit: if the handler of a batch system ended the process; the run is recorded as interrupted.
        Exception: if the run failed. It is recorded as failed; a run that has a checkpoint and fails with a `UserError`
            is recorded as interrupted instead, so that it can be resumed once the user has corrected the error.
    """
    has_checkpoint = folder.last_checkpoint.exists()
    began = time.perf_counter() - folder.results.get("seconds_total", 0.0)
    log.info(
        "convbench: %s", " ".join(f"{group}={folder.results[group]}" for group in ("data", "conv", "model", "seed"))
    )
    try:
        with sigterm_interrupts():
            check(config, "train")
            if select_gpu is not None:
                select_gpu()

            from convbench.experiment.run import TrainingRun  # imports PyTorch (seconds), so after the first line

            is_stop_requested = TrainingRun(config, folder, began).execute()
        folder.update_results(ended_at=now())
    except (KeyboardInterrupt, SystemExit) as stop:
        _record_end(folder, "interrupted", "stopped by a signal", began)
        log.info("interrupted; to continue: python -m convbench.train resume=%s", shlex.quote(str(folder.path)))
        call_batch_handler(stop)
        raise
    except BaseException as error:
        name = "traceback.txt" if folder.writes else f"traceback_{torchrun.rank()}.txt"
        write_text(folder.path / name, traceback.format_exc())
        can_be_resumed = has_checkpoint and find_user_error(error) is not None
        _record_end(folder, "interrupted" if can_be_resumed else "failed", reason(error), began)
        raise
    return is_stop_requested


def _record_end(folder: RunFolder, status: str, error: str, began: float) -> None:
    folder.update_results(status=status, error=error, ended_at=now(), seconds_total=time.perf_counter() - began)
