"""How runs were computed, as their records tell, and where runs that are pooled or compared differ in it.

A record holds an entry for each start and resume of the run (`computed` in `results.json`). Whatever keys it has are
read, and there is no list of them here: what a later version records is compared as well.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from convbench.report.variants import Comparison, incidental_of_engine
from convbench.report.wording import MOST_NAMED, named
from convbench.run_folders.record import RunRecord

_WHERE = "from_epoch"  # says which part of the run an entry is about
# Names the layers of a network, so it differs between networks by its nature and is compared within a variant only.
_OF_A_NETWORK = "implementations"
_LONGEST = 60  # characters of a value


def caveats(comparison: Comparison) -> Iterator[str]:
    """Of runs that were not all computed alike: the parts of one run, the runs of one variant, the variants."""
    parts = {
        variant.label: {run.folder.name: _parts(run) for run in variant.finished.values()}
        for variant in comparison.variants
    }
    by_run = [(name, _uneven(entries)) for runs in parts.values() for name, entries in runs.items()]
    yield from _sentences([(f"{name}, which was resumed: not all parts", uneven) for name, uneven in by_run])
    pooled = {label: [part for entries in runs.values() for part in entries] for label, runs in parts.items()}
    by_variant = {label: _uneven(entries) for label, entries in pooled.items()}
    yield from _sentences([(f"{label}: not all runs", uneven) for label, uneven in by_variant.items()])
    said = {key for uneven in by_variant.values() for key in uneven}
    overall = _uneven([part for entries in pooled.values() for part in entries])
    between = {key: values for key, values in overall.items() if key not in said | {_OF_A_NETWORK}}
    yield from _sentences([("not all variants", between)])


def _parts(run: RunRecord) -> list[dict[str, str]]:
    """An entry for each part, key -> value as text; of an older run also the settings that its configuration has."""
    more = {} if run.records_parts else incidental_of_engine(run.config)
    return [{key: _text(value) for key, value in (part | more).items() if key != _WHERE} for part in run.parts()]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _uneven(parts: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Keys of which not all parts that have them have the same value, and the values."""
    seen: dict[str, set[str]] = {}
    for part in parts:
        for key, value in part.items():
            seen.setdefault(key, set()).add(value)
    return {key: sorted(values) for key, values in sorted(seen.items()) if len(values) > 1}


def _sentences(found: Sequence[tuple[str, dict[str, list[str]]]]) -> Iterator[str]:
    there = [(what, uneven) for what, uneven in found if uneven]
    for what, uneven in there[:MOST_NAMED]:
        keys = "; ".join(f"{key} ({named([_shortened(value) for value in values])})" for key, values in uneven.items())
        yield f"{what} were computed alike, so accuracies, seconds and memory may differ for that reason: {keys}"
    if len(there) > MOST_NAMED:
        yield f"{len(there) - MOST_NAMED} more were not computed alike either"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
