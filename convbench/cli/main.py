"""The common entry point of all commands: Hydra composes the configuration, errors become messages and exit codes.

Exit codes: 0 success, 1 failure, 2 an error that the user can correct, 3 a sweep with unfinished jobs, 130 interrupted.
This module does not import PyTorch, so that `--help` and `--cfg job` answer without the seconds that this import takes.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from convbench.cli import overrides
from convbench.config import torchrun
from convbench.config.naming import run_folder
from convbench.config.options import conf_folder, environment, help_page
from convbench.config.resolvers import register_resolvers
from convbench.config.schema import check, kinds_of, unknown_keys
from convbench.errors import ExitCode, UserError, causes
from convbench.sweeps import gpu_locks, launcher_failures
from convbench.sweeps.jobs import job_folder
from convbench.terminal import tolerate_closed_pipes

_SECONDS_FOR_PROCESS_0 = 5.0  # to print an error message before another process of torchrun exits


def run_command(config_name: str, job: Callable[[DictConfig], Any], folders_key: str | None = None) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line and call `job` with the result.

    Exits with one of the exit codes listed at the top of this module.

    Args:
        config_name: name of the primary configuration file, without `.yaml`.
        job: the command itself. A `UserError` that it raises is printed as one sentence and gives exit code 2; in a
            sweep it only fails the job that raised it.
        folders_key: the key that receives the positional arguments of the command line (folders), if any.
    """
    if torchrun.world_size() == 1:
        _run(config_name, job, folders_key)
    else:
        _run_as_process_of_torchrun(partial(_run, config_name, job, folders_key))


def _run(config_name: str, job: Callable[[DictConfig], Any], folders_key: str | None) -> None:
    tolerate_closed_pipes()
    flags, words = overrides.split(sys.argv[1:], _stop)
    is_sweep = _is_sweep(flags, words)
    if is_sweep and torchrun.world_size() > 1:
        _stop("a sweep cannot be run by torchrun; start torchrun for each run (-m)")
    # PyTorch reads this variable at its first allocation. Activations are large and are allocated anew in every step:
    # in pages of 2 MB they cost a fraction of the page faults (docs/performance.md).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if folders_key is not None:
        words = overrides.gather_folders(words, folders_key)
    words = [overrides.quote_path(overrides.sweep_name(word)) for word in words]
    words = overrides.place_beside_resume(words)
    if is_sweep:
        words = overrides.name_jobs_by_what_varies(overrides.without_repetitions(words))
    sys.argv[1:] = [*flags, *words]
    broadcast = _join_process_group() if torchrun.world_size() > 1 else None
    _register_resolvers(broadcast)
    if {"--help", "-h"} & set(flags):
        print(help_page(config_name))
        return
    wants_traceback = environment("HYDRA_FULL_ERROR", "0") != "0"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors to us instead of exiting with a code of its own
    task = Task(job, config_name, wants_traceback)
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(task)()
    except KeyboardInterrupt:
        if is_sweep:
            launcher_failures.handle_interruption()
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        is_hydra_error = isinstance(error, HydraException | OmegaConfBaseException)
        if is_sweep and not is_hydra_error:
            launcher_failures.handle_launcher_failure(error)
        if wants_traceback or (task.has_begun and not is_hydra_error):
            raise
        _stop(
            _user_message(error) or launcher_failures.missing_extra(error) or _composition_message(error, task, words)
        )


def _run_as_process_of_torchrun(run: Callable[[], None]) -> NoReturn:
    """Run a command and exit with its exit code, without the shutdown of Python."""
    code: object = ExitCode.FAILED
    try:
        run()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    from convbench.engine import distributed  # imports PyTorch (seconds)

    distributed.exit_process(code if isinstance(code, int) else ExitCode.FAILED)


def _is_sweep(flags: list[str], words: list[str]) -> bool:
    """Whether the command line asks for a sweep; exits if it does not, but gives an option that only sweeps have."""
    if {"-m", "--multirun"} & set(flags):
        return True
    for key in ("sweep", "launcher", "search"):
        if not {"--cfg", "-c"} & set(flags) and any(word.startswith(f"{key}=") for word in words):
            _stop(f"{key}=NAME is an option of sweeps: give -m as well ({key})")
    return False


class Task:
    """The function that Hydra calls for each job.

    Launchers pickle it and send it to other processes and machines, where the resolvers have to be registered again.

    Args:
        job: the command itself; a search for hyper-parameters optimises its return value.
        command: name of the primary configuration, against which the keys of each job are checked.
        wants_traceback: whether an error that the user can correct is raised with its traceback, too.

    Attributes:
        has_begun: whether Hydra has called the task, so that composing the configuration has succeeded.
    """

    def __init__(self, job: Callable[[DictConfig], Any], command: str, wants_traceback: bool) -> None:
        self.job = job
        self.command = command
        self.wants_traceback = wants_traceback
        self.has_begun = False

    def __call__(self, config: DictConfig) -> Any:
        """Check the configuration and run the job; outside of sweeps, a `UserError` exits with exit code 2."""
        self.has_begun = True
        try:
            check(config, self.command)
            return self.job(config)
        except Exception as error:
            message = _user_message(error)
            if message is None or self.wants_traceback or HydraConfig.get().mode is RunMode.MULTIRUN:
                raise
            _stop(message)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Register the resolvers in the process that unpickles the task."""
        self.__dict__ |= state
        _register_resolvers()


def _register_resolvers(broadcast: Callable[[str], str] | None = None) -> None:
    """Register all functions that the yaml files in `conf/` call.

    Args:
        broadcast: returns the value of process 0 in every process; None where a single process carries out the run.
    """
    register_resolvers()

    # A dict and not functools.cache, which launchers could not pickle together with the resolvers.
    folders: dict[tuple[str | None, str], str] = {}

    def checked_run_folder(resume: str | None, overrides: str, _root_: DictConfig) -> str:
        check(_root_, "train")  # before Hydra creates the folder, so that a mistake leaves none
        if (resume, overrides) not in folders:
            folder = run_folder(resume, overrides)
            folders[resume, overrides] = folder if broadcast is None else broadcast(folder)
        return folders[resume, overrides]

    def folder(sweep: str, name: str, _root_: DictConfig) -> str:
        return job_folder(sweep, name, _root_)

    OmegaConf.register_new_resolver("run_folder", checked_run_folder, replace=True)
    OmegaConf.register_new_resolver("job_folder", folder, replace=True)
    gpu_locks.register_resolvers()


def _join_process_group() -> Callable[[Any], Any]:
    """Join the process group of torchrun; returns the function that broadcasts an object from process 0."""
    from convbench.engine import distributed  # imports PyTorch (seconds), needed only with several processes

    distributed.init_process_group()
    return distributed.broadcast_object


def _user_message(error: BaseException) -> str | None:
    """The message of an error that the user can correct; None for any other error."""
    for link in causes(error):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, MissingMandatoryValue):
            return f"{link.full_key} has no default value: give {link.full_key}=..."
    return None


def _composition_message(error: Exception, task: Task, words: list[str]) -> str:
    """The message for a configuration that cannot be composed.

    For an unknown key it lists similar keys. Otherwise it is Hydra's own message, without its advice to append the key
    with `+`: nothing would read such a key.
    """
    unknown = next(
        (link.full_key for link in causes(error) if isinstance(link, ConfigKeyError | ConfigAttributeError)), None
    )
    if isinstance(error, ConfigCompositionException) and not isinstance(error, OverrideParseException) and unknown:
        plain = _default_config(task.command, words)
        message = unknown_keys([unknown], kinds_of(plain, task.command), plain)
    else:
        lines = (str(error) or type(error).__name__).splitlines()
        message = "\n".join(line for line in lines if not line.startswith("To append to your"))
    return f"{message}\nAll keys: python -m convbench.{task.command} --cfg job; all options: --help"


def _default_config(config_name: str, words: list[str]) -> dict[str, Any]:
    """The configuration with its default values and, where they exist, the options of groups that `words` choose."""
    groups = [word for word in words if (conf_folder() / word.partition("=")[0]).is_dir() and "," not in word]

    def composed(overrides: list[str]) -> dict[str, Any]:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            plain = OmegaConf.to_container(hydra.compose(config_name, overrides), resolve=False)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    try:
        return composed(groups)
    except HydraException:
        return composed([])


def _stop(message: str) -> NoReturn:
    """Print an error message once for all processes of torchrun, and exit with the exit code of user errors."""
    if torchrun.rank() != 0:
        # torchrun ends all processes when the first of them fails. If process 0 has the same error, it prints the
        # message and ends this wait; otherwise the error occurred only here, for example on another machine.
        time.sleep(_SECONDS_FOR_PROCESS_0)
        message = f"process {torchrun.rank()}: {message}"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(ExitCode.USER_ERROR)
