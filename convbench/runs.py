"""`python -m convbench.runs`: list, filter, show and remove run folders."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from convbench.config.kinds import typed
from convbench.errors import ExitCode, UserError
from convbench.run_folders.record import RunRecord, check_keys, find_runs
from convbench.terminal import table, tolerate_closed_pipes

_ABSENT = object()
_GROUP_KEYS = ("model", "augment", "optimizer", "schedule")

_HELP = """\
convbench.runs - list, show and remove run folders

  Reads the run folders in outputs/ or in the given folders. KEY=VALUE selects
  the runs that have this value. KEY is status, conv, data, model, seed or any
  key of the configuration. Folders that cannot be read are reported.

    python -m convbench.runs [list|show|remove] [FOLDER ...] [KEY=VALUE ...]

  list     one line for each run (the default)
  show     all results of each run, including its command line
  remove   delete the folders after a confirmation; --yes skips it

Examples
  python -m convbench.runs
  python -m convbench.runs conv=dynamic status=failed
  python -m convbench.runs show outputs/sweeps/ablation seed=0
  python -m convbench.runs remove status=killed status=failed
"""


def runs(words: Sequence[str]) -> None:
    """List, show or remove runs.

    Args:
        words: the arguments of the command line.

    Raises:
        UserError: if an argument is neither a folder nor `KEY=VALUE`, a key is unknown, or runs cannot be removed.
    """
    parser = argparse.ArgumentParser(prog="convbench.runs", add_help=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-y", "--yes", action="store_true")
    options = parser.parse_args(words)
    if options.help:
        print(_HELP, end="")
        return
    arguments = list(options.words)
    action = arguments.pop(0) if arguments and arguments[0] in ("list", "show", "remove") else "list"
    folders, filters = _parse(arguments)
    found = find_runs(folders or [Path("outputs")])
    check_keys(filters, found.runs)
    selected = [run for run in found.runs if _matches(run, filters)]
    if action == "remove":
        if not (folders or filters):
            raise UserError("remove needs a selection: give a folder or KEY=VALUE")
        _remove(selected, is_confirmed=options.yes)
    elif action == "show":
        print("\n\n".join(map(_details, selected)))
    else:
        print(_listing(selected, len(found.runs)))
    for folder, why in found.broken:
        print(f"cannot be read: {folder}: {why}", file=sys.stderr)


def _parse(arguments: Sequence[str]) -> tuple[list[Path], dict[str, set[str]]]:
    """The folders, and for each key the values that a run may have."""
    folders: list[Path] = []
    filters: dict[str, set[str]] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if Path(argument).is_dir():  # checked first, as the names of older run folders contain "="
            folders.append(Path(argument))
        elif equals:
            filters.setdefault(key, set()).add(value)
        else:
            raise UserError(
                f"there is no folder {argument}: give an existing folder or KEY=VALUE; list, show and remove come first"
            )
    return folders, filters


def _matches(run: RunRecord, filters: dict[str, set[str]]) -> bool:
    return all(_value(run, key) in values for key, values in filters.items())


def _value(run: RunRecord, key: str) -> str | None:
    """The value of a key as it is typed on the command line; None if the run does not have the key."""
    if key == "status":
        return run.status
    if key in _GROUP_KEYS:  # the option, such as resnet; the results contain the name of the network, such as resnet14
        return run.choice(key, "None")
    value = run.value(key, _ABSENT)
    return None if value is _ABSENT else typed(value)


def _listing(selected: Sequence[RunRecord], total: int) -> str:
    """The table of the selected runs, the errors of unfinished runs, and the number of runs.

    Args:
        selected: the runs to list.
        total: the number of all runs that were found.
    """
    if not selected:
        return f"none of {total:,} runs matches" if total else "there are no runs"
    head = ["folder", "status", "epochs", "test %", "began"]
    lines = [table([head, *map(_row, selected)], left=2)]
    lines += [f"{run.folder}: {run.error}" for run in selected if run.error]
    count = _runs(total) if len(selected) == total else f"{len(selected):,} of {_runs(total)}"
    return "\n".join([*lines, count])


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _row(run: RunRecord) -> list[str]:
    accuracy = run.score("test", "accuracy")
    return [
        str(run.folder),
        run.status,
        f"{run.epochs_done}/{run.value('epochs', '?')}",
        "" if accuracy is None else f"{100 * accuracy:.2f}",
        run.began_at[5:16].replace("T", " "),
    ]


def _details(run: RunRecord) -> str:
    """All results of a run, one line each."""
    facts = {"folder": str(run.folder), "status": run.status, "error": run.error or None}
    facts |= {key: value for key, value in run.results.items() if key not in ("status", "error")}
    width = max(map(len, facts))
    return "\n".join(
        f"{key:{width}}  {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in facts.items()
        if value is not None
    )


def _remove(selected: Sequence[RunRecord], is_confirmed: bool) -> None:
    """Remove run folders, after a confirmation on the terminal unless it was given on the command line."""
    if not selected:
        print("no run matches")
        return
    busy = [run for run in selected if run.is_busy]
    if busy:
        raise UserError(f"a process is working in {busy[0].folder}; stop it first, or select other runs")
    print("\n".join(str(run.folder) for run in selected))
    if not is_confirmed:
        if not sys.stdin.isatty():
            raise UserError(f"without a terminal, removing {_runs(len(selected))} cannot be confirmed: give --yes")
        if input(f"remove {_runs(len(selected))}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing removed")
            return
    for run in selected:
        shutil.rmtree(run.folder)
    print(f"{_runs(len(selected))} removed")


def main() -> None:
    """Run the command line."""
    tolerate_closed_pipes()
    try:
        runs(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.USER_ERROR)


if __name__ == "__main__":
    main()
