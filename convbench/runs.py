"""`python -m convbench.runs`: list, filter, show and remove run folders."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from convbench.config.kinds import shown
from convbench.errors import ExitCode, UserError
from convbench.run_folders.record import Found, RunRecord, check_keys, find_runs
from convbench.terminal import table, tolerate_closed_pipes

_ABSENT = object()
_CHOICES = ("model", "augment", "optimizer", "schedule")

_HELP = """\
convbench.runs - what has been run, and what became of it

  Reads run folders, below outputs/ or where you say. Words of the form
  KEY=VALUE keep only the runs of which that is true: status, conv, data, model,
  seed, or any key of their configuration. Broken folders are named.

    python -m convbench.runs [list|show|remove] [FOLDER ...] [KEY=VALUE ...]

  list     a line for each run (the default)
  show     all that is known of each run, its command line among it
  remove   delete the folders, after a question; --yes asks none

Examples
  python -m convbench.runs
  python -m convbench.runs conv=dynamic status=failed
  python -m convbench.runs show outputs/sweeps/ablation seed=0
  python -m convbench.runs remove status=killed status=failed
"""


def runs(words: Sequence[str]) -> None:
    """Carry out what the words of the command line say.

    Raises:
        UserError: for a word that is neither a folder nor `KEY=VALUE`, or a removal of what is not chosen.
    """
    parser = argparse.ArgumentParser(prog="convbench.runs", add_help=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-y", "--yes", action="store_true")
    given = parser.parse_args(words)
    if given.help:
        print(_HELP, end="")
        return
    rest = list(given.words)
    action = rest.pop(0) if rest and rest[0] in ("list", "show", "remove") else "list"
    folders, wanted = _sort(rest)
    found = find_runs(folders or [Path("outputs")])
    check_keys(wanted, found.runs)
    chosen = [run for run in found.runs if _matches(run, wanted)]
    if action == "remove":
        _remove(chosen, is_everything=not (folders or wanted), is_sure=given.yes)
    elif action == "show":
        print("\n\n".join(map(_shown, chosen)))
    else:
        print(_listed(chosen, len(found.runs)))
    _tell_broken(found)


def _sort(words: Sequence[str]) -> tuple[list[Path], dict[str, set[str]]]:
    """Folders, and key -> the values of which one has to be there."""
    folders: list[Path] = []
    wanted: dict[str, set[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if Path(word).is_dir():  # the names of older run folders hold "=" too
            folders.append(Path(word))
        elif equals:
            wanted.setdefault(key, set()).add(value)
        else:
            raise UserError(f"{word} is neither a folder nor KEY=VALUE; list, show or remove come first")
    return folders, wanted


def _matches(run: RunRecord, wanted: dict[str, set[str]]) -> bool:
    return all(_value(run, key) in values for key, values in wanted.items())


def _value(run: RunRecord, key: str) -> str | None:
    """What a run has for a key, as one would type it; None if nothing."""
    if key == "status":
        return run.status
    if key in _CHOICES:  # the option, resnet, where the network built is a resnet14
        return run.choice(key, "None")
    value = run.value(key, _ABSENT)
    return None if value is _ABSENT else shown(value)


def _listed(chosen: Sequence[RunRecord], read: int) -> str:
    if not chosen:
        return f"none of {read:,} runs" if read else "there are no runs"
    head = ["folder", "status", "epochs", "test %", "began"]
    lines = [table([head, *map(_row, chosen)], left=2)]
    unfinished = [run for run in chosen if run.error]
    lines += [f"{run.folder}: {run.error}" for run in unfinished]
    counted = f"{len(chosen):,} runs" if len(chosen) == read else f"{len(chosen):,} of {read:,} runs"
    return "\n".join([*lines, counted])


def _row(run: RunRecord) -> list[str]:
    accuracy = run.score("test", "accuracy")
    return [
        str(run.folder),
        run.status,
        f"{run.epochs_done}/{run.value('epochs', '?')}",
        "" if accuracy is None else f"{100 * accuracy:.2f}",
        run.began_at[5:16].replace("T", " "),
    ]


def _shown(run: RunRecord) -> str:
    facts = {"folder": str(run.folder), "status": run.status, "error": run.error or None}
    facts |= {key: value for key, value in run.results.items() if key not in ("status", "error")}
    width = max(map(len, facts))
    return "\n".join(
        f"{key:{width}}  {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in facts.items()
        if value is not None
    )


def _remove(chosen: Sequence[RunRecord], is_everything: bool, is_sure: bool) -> None:
    if is_everything:
        raise UserError("remove needs to be told what: a folder, or KEY=VALUE")
    if not chosen:
        print("no such run")
        return
    busy = [run for run in chosen if run.is_busy]
    if busy:
        raise UserError(f"a process is at work in {busy[0].folder}; stop it first, or choose others")
    print("\n".join(str(run.folder) for run in chosen))
    if not is_sure:
        if not sys.stdin.isatty():
            raise UserError(f"nobody is there to be asked whether to remove {len(chosen):,} runs: give --yes")
        if input(f"remove these {len(chosen):,} runs? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing removed")
            return
    for run in chosen:
        shutil.rmtree(run.folder)
    print(f"{len(chosen):,} runs removed")


def _tell_broken(found: Found) -> None:
    for place, why in found.broken:
        print(f"cannot be read: {place}: {why}", file=sys.stderr)


def main() -> None:
    """The command line."""
    tolerate_closed_pipes()
    try:
        runs(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.USER_ERROR)


if __name__ == "__main__":
    main()
