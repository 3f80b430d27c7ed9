"""The command line of all entry points: Hydra composes, this module decides on messages and exit codes.

Exit codes: 0 done, 1 failed, 2 the user can mend it, 3 a sweep with failed jobs, 130 interrupted.
Imports neither torch nor anything that does: `--help` and `--cfg job` answer at once.
"""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from convbench.cli import overrides, torchrun
from convbench.config.naming import run_folder
from convbench.config.options import conf_folder, environment, help_page
from convbench.config.resolvers import register_resolvers
from convbench.config.schema import check, kinds_of, unknown_keys
from convbench.errors import ExitCode, UserError, causes
from convbench.sweeps import gpu_locks, launcher_failures
from convbench.sweeps.jobs import job_folder
from convbench.terminal import tolerate_closed_pipes


def run_command(config_name: str, job: Callable[[DictConfig], Any], folders_key: str | None = None) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line and call `job` with it; exits with the codes above.

    Args:
        config_name: the primary config, without its ending.
        job: does the work. A `UserError` that leaves it becomes one sentence and exit code 2; in a sweep it fails
            that one job only.
        folders_key: the key that takes the words which are no overrides, the folders to work on.
    """
    tolerate_closed_pipes()
    flags, words = overrides.split(sys.argv[1:], _stop)
    is_sweep = _is_sweep(flags, words)
    if is_sweep and torchrun.world_size() > 1:
        _stop("a sweep cannot be run by torchrun; start torchrun for each run (-m)")
    # PyTorch reads it at its first allocation. Activations are large and come and go with every step: in pages of 2 MB
    # they cost a fraction of the page faults (docs/performance.md).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if folders_key is not None:
        words = overrides.gather_folders(words, folders_key)
    words = [overrides.quote_path(overrides.sweep_name(word)) for word in words]
    words = overrides.place_beside_resume(words)
    if is_sweep:
        words = overrides.name_jobs_by_what_varies(overrides.without_repetitions(words))
    sys.argv[1:] = [*flags, *words]
    agree = _join() if torchrun.world_size() > 1 else None
    _register(agree)
    if {"--help", "-h"} & set(flags):
        print(help_page(config_name))
        return
    wants_traceback = environment("HYDRA_FULL_ERROR", "0") != "0"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us as exceptions, so that the exit code can be told
    task = Task(job, config_name, wants_traceback)
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(task)()
    except KeyboardInterrupt:
        if is_sweep:
            launcher_failures.handle_interruption()
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        is_of_hydra = isinstance(error, HydraException | OmegaConfBaseException)
        if is_sweep and not is_of_hydra:
            launcher_failures.handle_launcher_failure(error)
        if wants_traceback or (task.has_begun and not is_of_hydra):
            raise
        _stop(
            _user_sentence(error) or launcher_failures.missing_extra(error) or _composition_sentence(error, task, words)
        )
    finally:
        if torchrun.world_size() > 1:
            _part()


def _is_sweep(flags: list[str], words: list[str]) -> bool:
    """Whether a sweep is asked for; stops where it is not, and what was given is of use to sweeps alone."""
    if {"-m", "--multirun"} & set(flags):
        return True
    for key in ("sweep", "launcher", "search"):
        if not {"--cfg", "-c"} & set(flags) and any(word.startswith(f"{key}=") for word in words):
            _stop(f"{key}=NAME is for sweeps: give -m as well ({key})")
    return False


class Task:
    """What Hydra calls for each job: goes to other processes and machines, where it finds nothing set up.

    Args:
        job: does the work; what it returns is what a search for hyper-parameters goes by.
        command: the primary config, by which the keys of a job are checked.
        wants_traceback: of errors that a person can mend, too.
    """

    def __init__(self, job: Callable[[DictConfig], Any], command: str, wants_traceback: bool) -> None:
        self.job = job
        self.command = command
        self.wants_traceback = wants_traceback
        self.has_begun = False

    def __call__(self, config: DictConfig) -> Any:
        """Run the job; outside of sweeps, an error that a person can mend ends everything with one sentence."""
        self.has_begun = True
        try:
            check(config, self.command)
            return self.job(config)
        except Exception as error:
            sentence = _user_sentence(error)
            if sentence is None or self.wants_traceback or HydraConfig.get().mode is RunMode.MULTIRUN:
                raise
            _stop(sentence)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set up what composing the configuration of a job needs."""
        self.__dict__ |= state
        _register()


def _register(agree: Callable[[str], str] | None = None) -> None:
    """Make known to the configs what is computed where they are composed.

    Args:
        agree: where several processes carry out one run, gives the first one's value to all.
    """
    register_resolvers()

    # A dict and not functools.cache, which launchers could not pickle together with the resolvers.
    folders: dict[tuple[str | None, str], str] = {}

    def checked_run_folder(resume: str | None, overrides: str, _root_: DictConfig) -> str:
        check(_root_, "train")  # here already, so that a slip leaves no folder
        if (resume, overrides) not in folders:
            folder = run_folder(resume, overrides)
            folders[resume, overrides] = folder if agree is None else agree(folder)
        return folders[resume, overrides]

    def folder(sweep: str, name: str, _root_: DictConfig) -> str:
        return job_folder(sweep, name, _root_)

    OmegaConf.register_new_resolver("run_folder", checked_run_folder, replace=True)
    OmegaConf.register_new_resolver("job_folder", folder, replace=True)
    gpu_locks.register_resolvers()


def _join() -> Callable[[Any], Any]:
    """Meet the other processes; gives what makes all take the first one's value."""
    from convbench.engine import distributed  # PyTorch: seconds, but only where there are others

    distributed.init_process_group()
    return distributed.broadcast_object


def _part() -> None:
    """Part from the other processes while Python is still whole: at its end, their threads would bring it down."""
    from convbench.engine import distributed

    for link in causes(sys.exception()):
        traceback.clear_frames(link.__traceback__)  # an interrupted or failed run would live on in them
    distributed.destroy_process_group()


def _user_sentence(error: BaseException) -> str | None:
    """What a person is told of an error that they can mend; None for any other."""
    for link in causes(error):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, MissingMandatoryValue):
            return f"{link.full_key} has no default value: give {link.full_key}=..."
    return None


def _composition_sentence(error: Exception, task: Task, words: list[str]) -> str:
    """Hydra's own message, without its advice to add what nothing reads; for an unknown key those that come near it."""
    unknown = next(
        (link.full_key for link in causes(error) if isinstance(link, ConfigKeyError | ConfigAttributeError)), None
    )
    if isinstance(error, ConfigCompositionException) and not isinstance(error, OverrideParseException) and unknown:
        plain = _defaults(task.command, words)
        sentence = unknown_keys([unknown], kinds_of(plain, task.command), plain)
    else:
        lines = (str(error) or type(error).__name__).splitlines()
        sentence = "\n".join(line for line in lines if not line.startswith("To append to your"))
    return f"{sentence}\nAll keys: python -m convbench.{task.command} --cfg job; all options: --help"


def _defaults(config_name: str, words: list[str]) -> dict[str, Any]:
    """The configuration with its defaults, and with the options that the words choose where they can be chosen."""
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


def _stop(sentence: str) -> NoReturn:
    if torchrun.rank() == 0:
        print(f"error: {sentence}", file=sys.stderr)
    sys.exit(ExitCode.USER_ERROR)
