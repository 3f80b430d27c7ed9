"""Warnings about runs that were computed differently, such as on another device or in another precision.

A run records an entry for each start and resume (`computed` in `results.json`). All keys of these entries are compared.
The module has no list of keys, so keys that a later version adds are compared as well.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from convbench.config.kinds import typed
from convbench.report.variants import Comparison, ignored_engine_keys
from convbench.report.wording import MAX_NAMED, named
from convbench.run_folders.record import RunRecord

_FIRST_EPOCH = "from_epoch"  # the epoch at which an entry begins, which says nothing of how it was computed
# The value names the layers of a network, so it differs between networks. It is compared within a variant only.
_LAYERS_KEY = "implementations"
_MAX_VALUE_LENGTH = 60  # characters of a value in a sentence


def caveats(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence for each run, each variant and each comparison whose parts were computed differently."""
    parts = {
        variant.label: {run.folder.name: _parts(run) for run in variant.finished.values()}
        for variant in comparison.variants
    }
    by_run = [(name, _differing(entries)) for runs in parts.values() for name, entries in runs.items()]
    yield from _sentences(
        [(f"{name}, which was resumed: not all parts of the run", differing) for name, differing in by_run]
    )
    pooled = {label: [part for entries in runs.values() for part in entries] for label, runs in parts.items()}
    by_variant = {label: _differing(entries) for label, entries in pooled.items()}
    yield from _sentences([(f"{label}: not all runs", differing) for label, differing in by_variant.items()])
    reported = {key for differing in by_variant.values() for key in differing}
    overall = _differing([part for entries in pooled.values() for part in entries])
    between = {key: values for key, values in overall.items() if key not in reported | {_LAYERS_KEY}}
    yield from _sentences([("not all variants", between)])


def _parts(run: RunRecord) -> list[dict[str, str]]:
    """Return key -> value as text for each part of a run; for older runs with the engine keys of its configuration."""
    more = {} if run.records_parts else ignored_engine_keys(run.config)
    return [{key: typed(value) for key, value in (part | more).items() if key != _FIRST_EPOCH} for part in run.parts()]


def _differing(parts: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the keys that have more than one value, with their values; parts that lack a key are ignored for it."""
    seen: dict[str, set[str]] = {}
    for part in parts:
        for key, value in part.items():
            seen.setdefault(key, set()).add(value)
    return {key: sorted(values) for key, values in sorted(seen.items()) if len(values) > 1}


def _sentences(subjects: Sequence[tuple[str, dict[str, list[str]]]]) -> Iterator[str]:
    """Yield a sentence for each subject with differing keys, at most `MAX_NAMED`, and the number of further ones."""
    uneven = [(subject, differing) for subject, differing in subjects if differing]
    for subject, differing in uneven[:MAX_NAMED]:
        keys = "; ".join(
            f"{key} ({named([_shortened(value) for value in values])})" for key, values in differing.items()
        )
        yield (
            f"{subject} were computed under the same conditions, which may change accuracies, seconds and memory: "
            f"{keys}"
        )
    if len(uneven) > MAX_NAMED:
        yield f"{len(uneven) - MAX_NAMED} more runs or variants were not computed under the same conditions"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 3]}..."
