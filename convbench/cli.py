"""The command line of all entry points: Hydra composes, this module decides on messages and exit codes.

Exit codes: 0 done, 1 failed, 2 the user can mend it, 3 a sweep with failed jobs, 130 interrupted.
Imports neither torch nor anything that does: `--help` and `--cfg job` answer at once.
"""

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from convbench.config import conf_folder, register_resolvers
from convbench.errors import UserError, causes, reason
from convbench.sweeps import aftermath, slots
from convbench.sweeps.jobs import job_folder

USER_ERROR_CODE = 2
SWEEP_FAILED_CODE = 3
INTERRUPTED_CODE = 130

_HAS_A_ROOT = "data=folder"
_PATH_KEYS = ("resume", "run", "images", "image", "output", "data.root", "datasets")


def run(config_name: str, job: Callable[[DictConfig], Any], folders_key: str | None = None) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line and call `job` with it; exits with the codes above.

    Args:
        config_name: the primary config, without its ending.
        job: does the work. A `UserError` that leaves it becomes one sentence and exit code 2; in a sweep it fails
            that one job only.
        folders_key: the key that takes the words which are no overrides, the folders to work on.
    """
    is_sweep = _is_sweep(sys.argv)
    if is_sweep and processes() > 1:
        _stop("a sweep cannot be run by torchrun; start torchrun for each run (-m)")
    # PyTorch reads it at its first allocation. Activations are large and come and go with every step: in pages of 2 MB
    # they cost a fraction of the page faults (docs/performance.md).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    sys.argv[1:] = _name_jobs_by_what_varies([_sweep_name(quote_path(word)) for word in sys.argv[1:]])
    sys.argv[1:] = _place_beside_resume(sys.argv[1:])
    if folders_key is not None:
        sys.argv[1:] = _gather_folders(sys.argv[1:], folders_key)
    agree = _join() if processes() > 1 else None
    _register(agree)
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us as exceptions, so that the exit code can be told
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(
            Task(job, wants_traceback)
        )()
    except KeyboardInterrupt:
        if is_sweep:
            aftermath.of_interruption()
        sys.exit(INTERRUPTED_CODE)
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _stop(_user_sentence(error) or aftermath.missing_extra(error) or _composition_sentence(error, config_name))
    except Exception as error:
        if not is_sweep:
            raise
        aftermath.of_launcher(error)
        if wants_traceback:
            raise
        _stop(f"the sweep could not be started: {reason(error)}")
    finally:
        if processes() > 1:
            _part()


def _is_sweep(words: list[str]) -> bool:
    """Whether a sweep is asked for; stops where it is not, and what was given is of use to sweeps alone."""
    if {"-m", "--multirun"} & set(words):
        return True
    for key in ("sweep", "launcher", "search"):
        if "--cfg" not in words and any(word.startswith(f"{key}=") for word in words):
            _stop(f"{key}=NAME is for sweeps: give -m as well ({key})")
    return False


class Task:
    """What Hydra calls for each job: goes to other processes and machines, where it finds nothing set up.

    Args:
        job: does the work; what it returns is what a search for hyper-parameters goes by.
        wants_traceback: of errors that a person can mend, too.
    """

    def __init__(self, job: Callable[[DictConfig], Any], wants_traceback: bool) -> None:
        self.job = job
        self.wants_traceback = wants_traceback

    def __call__(self, config: DictConfig) -> Any:
        """Run the job; outside of sweeps, an error that a person can mend ends everything with one sentence."""
        try:
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
    register_resolvers(agree)

    def folder(sweep: str, name: str, _root_: DictConfig) -> str:
        return job_folder(sweep, name, _root_)

    OmegaConf.register_new_resolver("job_folder", folder, replace=True)
    slots.register_resolvers()


def processes() -> int:
    """How many processes torchrun has started for one run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; the first one, 0, alone speaks and writes."""
    return int(os.environ.get("RANK", "0"))


def _join() -> Callable[[Any], Any]:
    """Meet the other processes; gives what makes all take the first one's value."""
    from convbench.engine import world  # PyTorch: seconds, but only where there are others

    world.join()
    return world.of_first


def _part() -> None:
    """Part from the other processes while Python is still whole: at its end, their threads would bring it down."""
    from convbench.engine import world

    for link in causes(sys.exception()):
        traceback.clear_frames(link.__traceback__)  # an interrupted or failed run would live on in them
    world.leave()


def quote_path(argument: str) -> str:
    """Quote the value of a key that takes a path, so that Hydra takes it as it is.

    The names of run folders hold `=` and `,`, which Hydra's grammar would read as more overrides and as a sweep.
    """
    key, equals, path = argument.partition("=")
    if key not in _PATH_KEYS or not equals or path[:1] in ("", "'", '"', "[", "$") or path == "null":
        return argument
    return f"{key}={_quoted(path)}"


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _place_beside_resume(arguments: list[str]) -> list[str]:
    """Let `data.root` stand beside `resume`: the data of the run have this key, which those of the defaults lack."""
    keys = {word.partition("=")[0] for word in arguments}
    return [*arguments, _HAS_A_ROOT] if {"resume", "data.root"} <= keys and "data" not in keys else arguments


def _gather_folders(arguments: list[str], key: str) -> list[str]:
    """Give folders, which stand on the command line as they are, to a key that takes a list of them."""
    # The names of run folders hold "=" as overrides do.
    folders = [word for word in arguments if word[:1] != "-" and ("=" not in word or os.path.exists(word))]
    others = [word for word in arguments if word not in folders]
    return [*others, f"{key}=[{','.join(map(_quoted, folders))}]"] if folders else others


def _sweep_name(argument: str) -> str:
    """`sweep=NAME` is short for `sweep.name=NAME`."""
    return f"sweep.name={argument.removeprefix('sweep=')}" if argument.startswith("sweep=") else argument


def _name_jobs_by_what_varies(arguments: list[str]) -> list[str]:
    """In a sweep, leave keys with one value out of the names of the jobs' folders: `conv=weighted_sum,seed=1`."""
    if not {"-m", "--multirun"} & set(arguments):
        return arguments
    try:
        overrides = OverridesParser.create().parse_overrides([word for word in arguments if not word.startswith("-")])
    except OverrideParseException:
        return arguments  # Hydra will say what is wrong with it
    # given twice, the last counts
    varies = {override.key_or_group: override.is_sweep_override() for override in overrides}
    fixed = [key for key, does in varies.items() if not does]
    return [*arguments, f"hydra.job.config.override_dirname.exclude_keys=[{','.join(['datasets', *fixed])}]"]


def _user_sentence(error: BaseException) -> str | None:
    """What a person is told of an error that they can mend; None for any other."""
    for link in causes(error):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, MissingMandatoryValue):
            return f"{link.full_key} has no default value: give {link.full_key}=..."
    return None


def _composition_sentence(error: Exception, config_name: str) -> str:
    """Hydra's own message, and for an unknown key the keys that come near it."""
    sentence = str(error)
    key = next(
        (link.full_key for link in causes(error) if isinstance(link, ConfigKeyError | ConfigAttributeError)), None
    )
    if isinstance(error, ConfigCompositionException) and not isinstance(error, OverrideParseException) and key:
        near = difflib.get_close_matches(key, _all_keys(config_name), n=5, cutoff=0.5)
        if near:
            sentence += f"\nKeys like it: {', '.join(near)}"
    return f"{sentence}\nAll keys: python -m convbench.{config_name} --cfg job; all options: --help"


def _all_keys(config_name: str) -> list[str]:
    """Every key of the config with its defaults, dotted."""

    def walk(node: object, prefix: str) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{prefix}{key}"
                yield from walk(value, f"{prefix}{key}.")

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = hydra.compose(config_name)
    return list(walk(OmegaConf.to_container(composed, resolve=False), ""))


def _stop(sentence: str) -> None:
    if rank() == 0:
        print(f"error: {sentence}", file=sys.stderr)
    sys.exit(USER_ERROR_CODE)
