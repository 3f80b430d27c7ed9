"""The words of a command line, before Hydra reads them: what people type that Hydra's grammar does not take."""

import json
import os
import re
from collections.abc import Callable
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException

_PATH_KEYS = (
    "resume", "run", "images", "image", "output", "data.root", "data.cache", "datasets", "engine.cache", "sweep.name",
)  # fmt: skip
# Keys that say where and not what: they are in no name of a folder.
_PLACES = ("datasets", "data.root", "data.cache", "engine.cache", "logger")


def split(arguments: list[str], stop: Callable[[str], NoReturn]) -> tuple[list[str], list[str]]:
    """Part a command line into flags, such as `-m`, and words; flags may stand anywhere among the words.

    Args:
        arguments: without the name of the program.
        stop: is told what is wrong with the flags.
    """
    parser = get_args_parser()
    parser.error = lambda message: stop(f"{message} (--help)")  # type: ignore[method-assign]
    words: list[str] = parser.parse_intermixed_args(arguments).overrides
    flags, left = [], list(words)
    for argument in arguments:
        if left and argument == left[0]:
            left.pop(0)
        elif argument != "--":
            flags.append(argument)
    return flags, words


def quote_path(word: str) -> str:
    """Quote the value of a key that takes a path, so that Hydra takes it as it is.

    A `=` or a `,` in it, as in the names of older run folders, would be read as an override or as a sweep.
    """
    key, equals, path = word.partition("=")
    if key not in _PATH_KEYS or not equals or path[:1] in ("", "'", '"', "[", "$") or path == "null":
        return word
    return f"{key}={_quoted(path)}"


def _quoted(path: str) -> str:
    # Hydra takes a backslash for itself, unless a quotation mark follows.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), path)
    return f"'{escaped}'"


def place_beside_resume(words: list[str]) -> list[str]:
    """Let `data.root` stand beside `resume`: the data of the run have this key, which those of the defaults lack."""
    keys = {word.partition("=")[0] for word in words}
    return [*words, "data=folder"] if {"resume", "data.root"} <= keys and "data" not in keys else words


def gather_folders(words: list[str], key: str) -> list[str]:
    """Give folders, which stand on the command line as they are, to a key that takes a list of them."""
    # The names of older run folders hold "=" as overrides do.
    folders = [word for word in words if "=" not in word or os.path.exists(word)]
    others = [word for word in words if word not in folders]
    return [*others, f"{key}=[{','.join(map(_quoted, folders))}]"] if folders else others


def sweep_name(word: str) -> str:
    """`sweep=NAME` is short for `sweep.name=NAME`."""
    return f"sweep.name={word.removeprefix('sweep=')}" if word.startswith("sweep=") else word


def without_repetitions(words: list[str]) -> list[str]:
    """In a sweep, leave out the values that a key is given twice, also in two ways of writing; say so.

    `seed=0,0` and `optimizer.lr=0.1,1e-1` are one job each.
    """
    return [_once_each(word) for word in words]


def _once_each(word: str) -> str:
    override = _parsed(word)
    if override is None or override.value_type not in (ValueType.SIMPLE_CHOICE_SWEEP, ValueType.CHOICE_SWEEP):
        return word
    sweep: Any = override.value()
    if sweep.tags:
        return word
    written = list(override.sweep_string_iterator())
    meant = [_meaning(value) for value in override.sweep_iterator()]
    kept = [text for index, text in enumerate(written) if meant[index] not in meant[:index]]
    if len(kept) == len(written):
        return word
    key = override.get_key_element()
    print(f"{word}: the same value more than once is one job, so {key}={','.join(kept)}")
    return f"{key}={','.join(kept)}"


def _meaning(value: Any) -> str:
    """What a value is, however it is written: 0.1 as 1e-1, 1 as 1.0."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str, sort_keys=True)


def name_jobs_by_what_varies(words: list[str]) -> list[str]:
    """In a sweep, leave keys with one value out of the names of the jobs' folders: `conv-weighted_sum_seed-1`."""
    overrides = list(map(_parsed, words))
    # given twice, the last counts
    varies = {override.key_or_group: override.is_sweep_override() for override in overrides if override is not None}
    fixed = [key for key, does in varies.items() if not does]
    return [*words, f"hydra.job.config.override_dirname.exclude_keys=[{','.join([*_PLACES, *fixed])}]"]


def _parsed(word: str) -> Override | None:
    """A word as Hydra reads it; None where it cannot, which Hydra will say."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
