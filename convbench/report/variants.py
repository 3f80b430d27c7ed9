"""Runs sorted into variants: the same configuration but for the seed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from convbench.config.options import GROUPS
from convbench.run_folders.record import RunRecord

# What says where or on which occasion a run took place; never a variant of its own.
_INCIDENTAL = ("seed", "resume", "sweep.", "logger", "datasets", "engine.cache", "engine.threads")


@dataclass
class Variant:
    """Runs of one configuration.

    Attributes:
        config: flat, dotted key -> value; what may differ between runs of a variant left out.
        runs: all of them.
        keys: what sets it apart from the other variants, key -> value as text.
    """

    config: dict[str, Any]
    runs: list[RunRecord] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For a person: `standard`, or `standard, optimizer.lr=0.1`."""
        groups = [value for key, value in self.keys.items() if key in GROUPS]
        others = [f"{key}={value}" for key, value in self.keys.items() if key not in GROUPS]
        return ", ".join(groups + others) or "all runs"

    @cached_property
    def finished(self) -> dict[int, RunRecord]:
        """Seed -> run; of two runs with one seed the one that ended later."""
        runs = [run for run in self.runs if run.status == "finished" and run.seed is not None]
        runs.sort(key=lambda run: run.ended_at)
        latest = {run.seed: run for run in runs if run.seed is not None}
        return {seed: latest[seed] for seed in sorted(latest)}

    def of_each(self, score: str) -> dict[int, float]:
        """Seed -> a number of its run, `SPLIT.NAME` or a key of the results; runs that lack it left out."""
        split, _, name = score.rpartition(".")
        values = {
            seed: run.score(split, name) if split else run.results.get(name) for seed, run in self.finished.items()
        }
        return {seed: value for seed, value in values.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Variants, and what sets them apart.

    Attributes:
        variants: in the order of their labels, the reference first.
        keys: all that varies; groups by the option chosen.
        by: those of them that are being compared.
    """

    variants: list[Variant]
    keys: list[str]
    by: list[str]

    def blocks(self) -> list[list[Variant]]:
        """Variants that differ in nothing but what is compared; all of them, where no two are so alike."""
        blocks: dict[tuple[str, ...], list[Variant]] = defaultdict(list)
        others = [key for key in self.keys if key not in self.by]
        for variant in self.variants:
            blocks[tuple(variant.keys[key] for key in others)].append(variant)
        if all(len(block) == 1 for block in blocks.values()):
            return [self.variants]
        return list(blocks.values())


def sort_into_variants(runs: Iterable[RunRecord], by: Sequence[str] | None, reference: str) -> Comparison:
    """Group runs by configuration.

    Args:
        runs: those that have begun.
        by: keys to compare; None for `conv` where it varies, else for all that varies.
        reference: the option or value that comes first and that others are compared with.
    """
    grouped: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        grouped[run.variant_hash or _fingerprint(run)].append(run)
    variants = [Variant(flatten(members[0].config), members) for members in grouped.values()]
    keys = _varied_keys(variants)
    for variant in variants:
        variant.keys = {key: _value(variant, key) for key in keys}
    chosen = list(by) if by else (["conv"] if "conv" in keys else keys)
    variants.sort(key=lambda variant: (reference not in variant.keys.values(), _natural(variant.keys.values())))
    return Comparison(variants, keys, chosen)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as dotted keys, without what says only where and when."""
    datasets = str(config.get("datasets") or "")

    def without_place(value: Any) -> Any:
        is_inside = datasets and isinstance(value, str) and value.startswith(datasets)
        return value.removeprefix(datasets) if is_inside else value

    return {name: without_place(value) for name, value in _walk(config) if not name.startswith(_INCIDENTAL)}


def incidental_of_engine(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the engine that `flatten` leaves out."""
    return {name: value for name, value in _walk(config) if name.startswith(_INCIDENTAL) and name.startswith("engine.")}


def _walk(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _walk(value, f"{name}.")
        else:
            yield name, value


def _fingerprint(run: RunRecord) -> str:
    return repr(sorted(flatten(run.config).items()))


def _varied_keys(variants: Sequence[Variant]) -> list[str]:
    """Groups of which different options were taken, then keys that differ where the options are the same."""
    groups = [group for group in GROUPS if len({_value(variant, group) for variant in variants}) > 1]
    keys = set()
    # Sorted into those that took the same options, so that what an option brings along is no key of its own.
    alike: dict[tuple[str, ...], list[Variant]] = defaultdict(list)
    for variant in variants:
        alike[tuple(_value(variant, group) for group in groups)].append(variant)
    for members in alike.values():
        keys |= _differing(members)
    keys |= {key for key in _differing(variants) if key.partition(".")[0] not in groups}
    return [*groups, *sorted(keys - set(groups))]


def _differing(variants: Sequence[Variant]) -> set[str]:
    seen: dict[str, Any] = dict(variants[0].config) if variants else {}
    names = set(seen)
    differing: set[str] = set()
    for variant in variants[1:]:
        differing |= names ^ variant.config.keys()
        names |= variant.config.keys()
        differing |= {key for key, value in variant.config.items() if key in seen and seen[key] != value}
    return differing


def _value(variant: Variant, key: str) -> str:
    if key in GROUPS:
        run = variant.runs[0]
        return run.conv if key == "conv" else run.choice(key)
    value = variant.config.get(key, "-")
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _natural(values: Iterable[str]) -> tuple[tuple[float, str], ...]:
    """An order in which 9 comes before 10."""

    def key(value: str) -> tuple[float, str]:
        try:
            return float(value), ""
        except ValueError:
            return float("inf"), value

    return tuple(map(key, values))
