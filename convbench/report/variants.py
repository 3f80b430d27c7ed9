"""Grouping of runs into variants, whose configurations differ in the seed only."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from convbench.config.kinds import typed
from convbench.config.options import GROUPS
from convbench.run_folders.record import RunRecord

# Prefixes of the keys that do not separate variants: the seed, and keys that do not change what is trained.
_IGNORED_PREFIXES = ("seed", "resume", "sweep.", "logger", "datasets", "engine.cache", "engine.threads")


@dataclass
class Variant:
    """The runs of one configuration.

    Attributes:
        config: the flat configuration, dotted key -> value, without the keys that may differ between runs of a variant.
        runs: all runs of the variant, including unfinished ones.
        keys: key -> value as text, for the keys that vary between variants.
    """

    config: dict[str, Any]
    runs: list[RunRecord] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name in reports, such as `standard` or `standard, optimizer.lr=0.1`."""
        groups = [value for key, value in self.keys.items() if key in GROUPS]
        others = [f"{key}={value}" for key, value in self.keys.items() if key not in GROUPS]
        return ", ".join(groups + others) or "all runs"

    @cached_property
    def finished(self) -> dict[int, RunRecord]:
        """Seed -> finished run; of several runs with the same seed the one that ended last."""
        runs = [run for run in self.runs if run.status == "finished" and run.seed is not None]
        runs.sort(key=lambda run: run.ended_at)
        latest = {run.seed: run for run in runs if run.seed is not None}
        return {seed: latest[seed] for seed in sorted(latest)}

    def values_by_seed(self, score: str) -> dict[int, float]:
        """Seed -> a number of the results of its run; runs without the number are left out.

        Args:
            score: a key of `results.json`, such as `params`, or `SPLIT.NAME`, such as `test.loss`.
        """
        split, _, name = score.rpartition(".")
        values = {
            seed: run.score(split, name) if split else run.results.get(name) for seed, run in self.finished.items()
        }
        return {seed: value for seed, value in values.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Variants and the keys that vary between them.

    Attributes:
        variants: the variants, sorted by the values of their keys, the reference first.
        keys: all keys that vary; a group stands for the option that was chosen from it.
        by: the keys that are compared.
    """

    variants: list[Variant]
    keys: list[str]
    by: list[str]

    def blocks(self) -> list[list[Variant]]:
        """Groups of variants that differ in the compared keys only; a single group if no two variants do."""
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
        runs: runs that have begun.
        by: the keys to compare; None for `conv` if it varies, otherwise for all keys that vary.
        reference: the option or value that comes first and that the others are compared with.
    """
    grouped: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        grouped[run.variant_hash or _config_text(run)].append(run)
    variants = [Variant(flatten(members[0].config), members) for members in grouped.values()]
    keys = _varied_keys(variants)
    for variant in variants:
        variant.keys = {key: _value(variant, key) for key in keys}
    chosen = list(by) if by else (["conv"] if "conv" in keys else keys)
    variants.sort(
        key=lambda variant: (reference not in variant.keys.values(), _natural_sort_key(variant.keys.values()))
    )
    return Comparison(variants, keys, chosen)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as dotted key -> value, without what does not separate variants.

    The seed and the keys that do not change what is trained are left out. In paths, the folder of the data sets is
    removed.
    """
    datasets = str(config.get("datasets") or "")

    def relative_to_datasets(value: Any) -> Any:
        is_inside = datasets and isinstance(value, str) and value.startswith(datasets)
        return value.removeprefix(datasets) if is_inside else value

    return {
        name: relative_to_datasets(value)
        for name, value in _dotted_items(config)
        if not name.startswith(_IGNORED_PREFIXES)
    }


def ignored_engine_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the group `engine` that `flatten` leaves out, with their values."""
    return {
        name: value
        for name, value in _dotted_items(config)
        if name.startswith(_IGNORED_PREFIXES) and name.startswith("engine.")
    }


def _dotted_items(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted_items(value, f"{name}.")
        else:
            yield name, value


def _config_text(run: RunRecord) -> str:
    return repr(sorted(flatten(run.config).items()))


def _varied_keys(variants: Sequence[Variant]) -> list[str]:
    """Groups from which different options were chosen, then keys that differ between variants with the same options."""
    groups = [group for group in GROUPS if len({_value(variant, group) for variant in variants}) > 1]
    keys = set()
    # Keys are compared between variants with the same options only: the keys that come with an option do not vary by
    # themselves.
    by_options: dict[tuple[str, ...], list[Variant]] = defaultdict(list)
    for variant in variants:
        by_options[tuple(_value(variant, group) for group in groups)].append(variant)
    for members in by_options.values():
        keys |= _differing(members)
    keys |= {key for key in _differing(variants) if key.partition(".")[0] not in groups}
    return [*groups, *sorted(keys - set(groups))]


def _differing(variants: Sequence[Variant]) -> set[str]:
    """The keys that not all variants have, or that do not have the same value in all variants."""
    first: dict[str, Any] = dict(variants[0].config) if variants else {}
    names = set(first)
    differing: set[str] = set()
    for variant in variants[1:]:
        differing |= names ^ variant.config.keys()
        names |= variant.config.keys()
        differing |= {key for key, value in variant.config.items() if key in first and first[key] != value}
    return differing


def _value(variant: Variant, key: str) -> str:
    """The value of a key, or the chosen option of a group, as text; `-` if the variant lacks it."""
    if key in GROUPS:
        run = variant.runs[0]
        return run.conv if key == "conv" else run.choice(key)
    return typed(variant.config.get(key, "-"))


def _natural_sort_key(values: Iterable[str]) -> tuple[tuple[float, str], ...]:
    """A sort key by which numbers are sorted by value, 9 before 10, and come before other texts."""

    def key(value: str) -> tuple[float, str]:
        try:
            return float(value), ""
        except ValueError:
            return float("inf"), value

    return tuple(map(key, values))
