"""Preparation of the command line for Hydra: quoting of paths, shorthands, and values that a sweep repeats."""

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
# Keys that do not change what is computed, only where files lie and what is logged: no folder is named after them.
_NOT_IN_FOLDER_NAMES = ("datasets", "data.root", "data.cache", "engine.cache", "logger")


def split(arguments: list[str], stop: Callable[[str], NoReturn]) -> tuple[list[str], list[str]]:
    """Split a command line into flags, such as `-m`, and other words; flags may stand anywhere among the words.

    Args:
        arguments: the command line without the name of the program.
        stop: called with the error message if a flag is unknown; does not return.
    """
    parser = get_args_parser()
    parser.error = lambda message: stop(f"{message} (--help)")  # type: ignore[method-assign]
    words: list[str] = parser.parse_intermixed_args(arguments).overrides
    flags, remaining = [], list(words)
    for argument in arguments:
        if remaining and argument == remaining[0]:
            remaining.pop(0)
        elif argument != "--":
            flags.append(argument)
    return flags, words


def quote_path(word: str) -> str:
    """Quote the value of a key that takes a path, so that Hydra does not interpret its characters.

    Hydra would read `=` and `,`, as in the names of older run folders, as an override or as the values of a sweep.
    """
    key, equals, path = word.partition("=")
    if key not in _PATH_KEYS or not equals or path[:1] in ("", "'", '"', "[", "$") or path == "null":
        return word
    return f"{key}={_quoted(path)}"


def _quoted(path: str) -> str:
    # In Hydra's grammar a backslash escapes only when a quotation mark follows.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), path)
    return f"'{escaped}'"


def place_beside_resume(words: list[str]) -> list[str]:
    """Add `data=folder` where `data.root` is given together with `resume`.

    The default data set has no key `data.root`, so that Hydra would refuse the override although the resumed run may
    have this key.
    """
    keys = {word.partition("=")[0] for word in words}
    return [*words, "data=folder"] if {"resume", "data.root"} <= keys and "data" not in keys else words


def gather_folders(words: list[str], key: str) -> list[str]:
    """Turn positional arguments, which are folders, into one override of a key that takes a list."""
    # Names of older run folders contain "=", as overrides do.
    folders = [word for word in words if "=" not in word or os.path.exists(word)]
    others = [word for word in words if word not in folders]
    return [*others, f"{key}=[{','.join(map(_quoted, folders))}]"] if folders else others


def sweep_name(word: str) -> str:
    """Expand the shorthand `sweep=NAME` to `sweep.name=NAME`."""
    return f"sweep.name={word.removeprefix('sweep=')}" if word.startswith("sweep=") else word


def without_repetitions(words: list[str]) -> list[str]:
    """Remove values that a sweep gives twice for one key, also in two notations, and print a note.

    `seed=0,0` and `optimizer.lr=0.1,1e-1` are one job each.
    """
    return [_without_repeated_values(word) for word in words]


def _without_repeated_values(word: str) -> str:
    override = _parsed(word)
    if override is None or override.value_type not in (ValueType.SIMPLE_CHOICE_SWEEP, ValueType.CHOICE_SWEEP):
        return word
    sweep: Any = override.value()
    if sweep.tags:
        return word
    texts = list(override.sweep_string_iterator())
    values = [_canonical(value) for value in override.sweep_iterator()]
    kept = [text for index, text in enumerate(texts) if values[index] not in values[:index]]
    if len(kept) == len(texts):
        return word
    key = override.get_key_element()
    print(f"{word}: the same value given more than once is one job, so this is {key}={','.join(kept)}")
    return f"{key}={','.join(kept)}"


def _canonical(value: Any) -> str:
    """A text that is the same for all notations of a value: 0.1 and 1e-1, 1 and 1.0."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str, sort_keys=True)


def name_jobs_by_what_varies(words: list[str]) -> list[str]:
    """Exclude keys with a single value from the names of a sweep's job folders: `conv-weighted_sum_seed-1`."""
    overrides = list(map(_parsed, words))
    # Hydra uses the last override of a key that is given twice.
    varies = {override.key_or_group: override.is_sweep_override() for override in overrides if override is not None}
    fixed = [key for key, does in varies.items() if not does]
    excluded = ",".join([*_NOT_IN_FOLDER_NAMES, *fixed])
    return [*words, f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]"]


def _parsed(word: str) -> Override | None:
    """The override that Hydra reads in a word; None if there is a syntax error, which Hydra itself reports later."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
