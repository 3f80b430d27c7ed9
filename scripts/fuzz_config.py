"""Fuzz the keys of all commands: `python scripts/fuzz_config.py --cases 500`.

Hypothesis draws a command, one to three keys and a value for each: a value of the right type, at or just beyond the
ends of its range, of another type, or arbitrary text. Each case runs in a separate process, forked from this one, which
has loaded PyTorch. Every case has to end with an error message of one sentence, or with a run that records its status.
The script exits with 1 if a case ends in another way.
"""

import argparse
import collections
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from omegaconf import OmegaConf

from convbench.cli.main import run_command
from convbench.config.keys import KEYS
from convbench.config.kinds import Kind
from convbench.config.options import conf_folder, options
from convbench.config.resolvers import register_resolvers
from convbench.config.schema import kinds_of

_COMMANDS = ("train", "describe", "bench", "doctor", "evaluate", "compare", "apply_kernel")
_JOBS = {name: getattr(importlib.import_module(f"convbench.{name}"), name) for name in _COMMANDS}
_TIMEOUT = 120  # seconds after which a case counts as hanging
_CASES_PER_SEED = 8
_PHASES = (Phase.generate,)  # Hypothesis does not shrink the cases; all cases that end wrongly are printed
# The smallest run. It has 16 channels, because PyTorch 2.15 corrupts memory with fewer channels in channels_last.
_TINY = (
    "data.train=20",
    "data.val=10",
    "data.test=10",
    "data.image_size=16",
    "model.depth=8",
    "model.widths=[16,16,16]",
    "batch_size=10",
    "engine.compile=false",
    "engine.watch=false",
    "epochs=1",
)
_GIVEN = {
    "train": _TINY,
    "describe": _TINY,
    # A measurement takes minutes. loop.rounds=0 is invalid, so that the command ends before it measures.
    "bench": (*_TINY, "suite=loop", "loop.rounds=0"),
    "doctor": (),
    "evaluate": ("run=no/such/run",),
    "compare": ("folders=[no/such/run]",),
    "apply_kernel": ("image=no/such/picture.png",),
}
# The valid values of keys for which other valid values need minutes, gigabytes or a compiler. Invalid values are drawn
# for these keys as for all others.
_COSTLY = {
    "epochs": [1, 2],
    "batch_size": [1, 10, 20],
    "data.train": [20, 30],
    "data.val": [10],
    "data.test": [10],
    "data.image_size": [16, 20],
    "model.depth": [8, 14],
    "model.widths": [[16, 16, 16]],
    "model.image_size": [16],
    "model.match": [None],
    "engine.compile": [False],
    "engine.device": ["auto", "cpu"],
    "engine.threads": [1],
    "engine.accumulate": [1, 2],
    "engine.shards": [1, 2],
    "engine.channels_last": [True, False],
    "conv.num_experts": [1, 4],
    "conv.large_kernel": [3, 7],
    "conv.cheap_kernel": [1, 3],
    "loop.rounds": [0],
    "resume": [None, "no/such/run"],
    "datasets": ["datasets"],
    "engine.cache": ["cache"],
    "conv._target_": ["torch.nn.Conv2d", "torch.nn.Linear", "os.getcwd", "no.such.Conv", "nodots"],
    "model._target_": ["torch.nn.Linear", "os.getcwd", "no.such.Network", "nodots"],
    "optimizer._target_": ["torch.optim.Adam", "torch.optim.NoSuch", "torch.optim.Adagrad", "os.getcwd"],
}
_ARBITRARY = (
    "null", "true", "-1", "0", "1.5", "nan", "inf", "-inf", "1e400", "1" + 30 * "0", "1" + 400 * "0", "[]", "[1,[2]]",
    "[null]", "{}", "{a:1}", "text", "'two words'", "''", "'line\nbreak'", "???", "${seed}", "${no.such.key}",
    "${oc.env:NO_SUCH_VARIABLE}", "ünïcödé", "'\U0001f984'", "[", "a,b", "a=b", "\\", "'\\'", "", "-", "0x10",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "x" * 300, "[nan,0,0]", "../..", "/", "~",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Attributes:
        words: command and its arguments.
        end: `refused`, `finished` or `failed`; or an error of the program: `traceback`, `hang`, `crash`, `no status`.
        output: end of the output.
    """

    words: tuple[str, ...]
    end: str
    output: str

    @property
    def is_allowed(self) -> bool:
        """Whether the case is allowed to end in this way."""
        return self.end in ("refused", "finished", "failed")


def known_keys() -> dict[str, dict[str, Kind | None]]:
    """The keys of each command, and their kinds; the groups of options are keys, too."""
    register_resolvers()
    found: dict[str, dict[str, Kind | None]] = {}
    for command in KEYS:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config: Any = OmegaConf.to_container(hydra.compose(command, list(_GIVEN[command])), resolve=False)
        kinds = {_with_plus_if_missing(key, config): kind for key, kind in kinds_of(config, command).items()}
        groups = ("data", "conv", "model", "augment", "optimizer", "schedule")
        kinds |= {group: Kind(frozenset({"str"})) for group in groups if f"{group}._target_" in kinds}
        found[command] = kinds
    return found


def _with_plus_if_missing(key: str, config: Any) -> str:
    """A key, with the prefix `+` if the yaml does not contain it: Hydra requires the prefix for new keys."""
    node = config
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return f"+{key}"
        node = node[part]
    return key


def cases(known: dict[str, dict[str, Kind | None]]) -> st.SearchStrategy[tuple[str, ...]]:
    """A strategy for a command and its arguments."""
    return st.sampled_from([*["train"] * 9, *["describe"] * 6, *known, *sorted(set(known) - {"doctor"})]).flatmap(
        lambda command: st.lists(_word(known[command]), min_size=1, max_size=3).map(
            lambda words: (command, *_GIVEN[command], *words)
        )
    )


def _word(kinds: dict[str, Kind | None]) -> st.SearchStrategy[str]:
    """A strategy for one argument."""
    keys, prefixed_keys = sorted(key.removeprefix("+") for key in kinds), sorted(kinds)
    of_right_type = st.sampled_from(prefixed_keys).flatmap(
        lambda key: _value(key, kinds[key]).map(lambda value: f"{key}={value}")
    )
    arbitrary = st.builds("{}={}".format, st.sampled_from(prefixed_keys), st.sampled_from(_ARBITRARY))
    cheap = [key for key in keys if key != "loop.rounds"]
    prefixed = st.builds("{}{}={}".format, st.sampled_from(["+", "++", "~"]), st.sampled_from(cheap), st.just("1"))
    deleted = st.sampled_from(keys).map(lambda key: f"~{key}")
    unknown = st.builds(
        "{}{}x={}".format, st.sampled_from(["", "+", "++"]), st.sampled_from(keys), st.sampled_from(_ARBITRARY)
    )
    return st.one_of(*[of_right_type] * 3, *[arbitrary] * 3, prefixed, deleted, unknown)


def _value(key: str, kind: Kind | None) -> st.SearchStrategy[str]:
    """A strategy for values of the right type: valid values, and values at and beyond the ends of the range."""
    if key in _COSTLY:
        return st.sampled_from([_as_text(value) for value in _COSTLY[key]])
    if (conf_folder() / key).is_dir():
        return st.sampled_from([option for option in options(key) if option not in ("timm", "torchvision")])
    return _of_kind(kind).map(_as_text) if kind is not None else st.sampled_from(["1", "x"])


def _of_kind(kind: Kind) -> st.SearchStrategy[Any]:
    limits, drawn = kind.limits, []
    if limits.choices:
        drawn.append(st.sampled_from(limits.choices))
    if "bool" in kind.scalars and not limits.choices:
        drawn.append(st.booleans())
    ends = [end for end in (limits.low, limits.high) if abs(end) < 2**63]
    if "float" in kind.scalars:
        drawn.append(st.floats(allow_nan=True, allow_infinity=True))
        drawn.append(
            st.sampled_from([0.0, 1.0, 0.5, 1e-6, 1e-320, 1e300, *(end + by for end in ends for by in (0, 0.1))])
        )
    elif "int" in kind.scalars:
        drawn.append(st.sampled_from([0, 1, 2, 3, 2**63 - 1, *(int(end) + by for end in ends for by in (-1, 0, 1))]))
    elif "str" in kind.scalars and not limits.choices:
        drawn.append(st.sampled_from(["first", "standard", "some text", "folder/file"]))
    if kind.items is not None:
        drawn.append(st.lists(_of_kind(kind.items), max_size=4))
    return st.one_of(*drawn, *([st.none()] if kind.is_optional else []))


def _as_text(value: Any) -> str:
    """A value in the syntax of the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_as_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"'{value}'" if isinstance(value, str) and " " in value else str(value)


def outcome(words: tuple[str, ...]) -> Outcome:
    """The outcome of a command, which runs in a fork of this process and in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = os.fork()
        if child == 0:
            _run(words, folder)
        status = _wait(child)
        output = (folder / ".output").read_text(encoding="utf-8", errors="replace")
        return Outcome(words, _end(words, status, output, folder), output[-2000:])


def _run(words: tuple[str, ...], folder: Path) -> NoReturn:
    """Run the command in the child process, write its output to a file, and exit."""
    os.chdir(folder)
    output = os.open(".output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    code = 1
    try:
        torch.set_num_threads(1)
        GlobalHydra.instance().clear()
        sys.argv = list(words)
        run_command(words[0], _JOBS[words[0]], "folders" if words[0] == "compare" else None)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int | None:
    """The exit code of a child process, negative for a signal; None if it was killed after the timeout."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _end(words: tuple[str, ...], status: int | None, output: str, folder: Path) -> str:
    """The value of `Outcome.end`."""
    if status is None:
        return "hang"
    if status < 0:
        return "crash"
    runs = [path for path in folder.glob("outputs/*/*") if path.is_dir() and path.parent.name in ("runs", "sweeps")]
    statuses = [_status(run) for run in runs]
    if any(found not in ("finished", "failed") for found in statuses):
        return "no status"
    if status == 2:
        is_message = "error: " in output and "Traceback" not in output
        return "refused" if is_message else "traceback"
    if status == 1 and words[0] == "doctor" and "Traceback" not in output:
        return "finished"  # an examination has failed
    if status == 1 and "failed" in statuses:
        return "failed"  # the run itself has failed, for example because its loss is not finite
    return "finished" if status == 0 and "Traceback" not in output else "traceback"


def _status(run: Path) -> str | None:
    """The status that a run has recorded; None if there is none, or if a failed run has no error message."""
    try:
        results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if results["status"] == "failed" and not results["error"] else str(results["status"])


def fuzz(count: int, seed: int) -> list[Outcome]:
    """The outcomes of `count` different cases."""
    found: dict[tuple[str, ...], Outcome] = {}
    known = known_keys()

    # After some examples, Hypothesis mostly draws variations of earlier ones. A new seed gives other examples.
    @settings(
        max_examples=_CASES_PER_SEED,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=_PHASES,
    )
    @given(words=cases(known))
    def run_case(words: tuple[str, ...]) -> None:
        if words not in found and len(found) < count:
            found[words] = outcome(words)

    while len(found) < count:
        hypothesis_seed(seed)(run_case)()
        seed += 1
    return list(found.values())


def summary(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """The number of cases for each way to end."""
    return dict(collections.Counter(one.end for one in outcomes))


def main() -> None:
    """Run the cases, print those that ended in a way that is not allowed, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begin = time.monotonic()
    outcomes = fuzz(arguments.cases, arguments.seed)
    for one in outcomes:
        if not one.is_allowed:
            print(f"{one.end}: {' '.join(one.words)}\n{one.output}\n")
    print(f"{len(outcomes)} cases in {time.monotonic() - begin:.0f} s: {json.dumps(summary(outcomes))}")
    sys.exit(not all(one.is_allowed for one in outcomes))


if __name__ == "__main__":
    main()
