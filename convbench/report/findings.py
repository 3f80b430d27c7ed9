"""What the runs say about the variants, in sentences, and what speaks against believing it."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from convbench.report.records import Run
from convbench.report.settings import Settings
from convbench.report.statistics import Difference, difference, holm, seeds_needed
from convbench.report.variants import Comparison, Variant

_SIGNIFICANT = 0.05
_ALL_PAIRS = 5  # variants of a block up to which each is compared with each; beyond, with the first
_MOST_FINDINGS = 40
_MOST_NAMED = 5


def findings(comparison: Comparison, settings: Settings) -> list[str]:
    """A sentence for each pair of variants that are compared, on the test accuracy after the last epoch."""
    said = []
    for block in comparison.blocks():
        pairs = [pair for pair in _pairs(block) if all(_accuracies(variant) for variant in pair)]
        found = [difference(_accuracies(one), _accuracies(other), settings.test) for one, other in pairs]
        adjusted = iter(holm([each.p for each in found if each.p is not None]))
        for (one, other), each in zip(pairs, found, strict=True):
            p = next(adjusted) if each.p is not None else None
            said.append(_sentence(one, other, each, p, len(pairs), settings.difference))
    if len(said) > _MOST_FINDINGS:
        return [*said[:_MOST_FINDINGS], f"{len(said) - _MOST_FINDINGS} more pairs were compared"]
    return said


def _pairs(block: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """Later ones first, so that sentences read "dynamic is better than standard"."""
    if len(block) <= _ALL_PAIRS:
        return [(other, one) for one, other in combinations(block, 2)]
    return [(other, block[0]) for other in block[1:]]


def _accuracies(variant: Variant) -> dict[int, float]:
    """Test accuracy in percent; validation accuracy where the data have no test set."""
    scores = variant.of_each("test.accuracy") or variant.of_each("val.accuracy")
    return {seed: 100 * value for seed, value in scores.items()}


def _sentence(one: Variant, other: Variant, found: Difference, p: float | None, tests: int, wanted: float) -> str:
    points = abs(found.mean)
    if p is None or found.low is None or found.high is None or found.deviation is None:
        return (
            f"{one.label} has {points:.1f} points {_more(found.mean)} than {other.label} in one pair of runs (n=1), "
            "which says nothing of chance: give more seeds"
        )
    note = "" if found.is_paired else ", not paired, for they share no seed"
    if p < _SIGNIFICANT:
        low, high = (found.low, found.high) if found.mean > 0 else (-found.high, -found.low)
        word = "better" if found.mean > 0 else "worse"
        return (
            f"{one.label} is {word} than {other.label} by {points:.1f} points "
            f"(95 % interval {low:.1f} to {high:.1f}, n={found.n}{note})"
        )
    said = (
        f"{one.label} and {other.label} are not distinguishable at n={found.n}{note}: "
        f"the one minus the other is {found.mean:+.1f} points "
        f"(95 % interval {found.low:+.1f} to {found.high:+.1f}{_after_all(found, tests)})"
    )
    seeds = seeds_needed(found.deviation, wanted)
    if seeds is not None and seeds <= found.n:
        return f"{said}; a difference of {wanted:g} points would probably have been seen"
    count = f"about {seeds}" if seeds is not None else "more than 1000"
    return f"{said}; {count} seeds would be needed to see {wanted:g} points"


def _more(difference: float) -> str:
    return "more" if difference > 0 else "fewer"


def _after_all(found: Difference, tests: int) -> str:
    """Where one test alone would have called it significant."""
    return f", but it is one of {tests} comparisons" if (found.p or 0) < _SIGNIFICANT else ""


def warnings(comparison: Comparison, runs: Sequence[Run]) -> list[str]:
    """What a reader has to know before believing any of it."""
    return [*_of_runs(runs), *_of_pairing(comparison), *_of_configs(comparison), *_of_circumstances(comparison)]


def _of_runs(runs: Sequence[Run]) -> Iterator[str]:
    unfinished = [run for run in runs if run.status != "finished"]
    for run in unfinished[:_MOST_NAMED]:
        yield f"{run.folder.name} is not in it: {run.status}" + (f", {run.error}" if run.error else "")
    if len(unfinished) > _MOST_NAMED:
        yield f"{len(unfinished) - _MOST_NAMED} more runs are not in it: they are not finished"


def _of_pairing(comparison: Comparison) -> Iterator[str]:
    single = [variant.label for variant in comparison.variants if len(variant.finished) == 1]
    if single:
        yield f"one run says nothing of spread: {_named(single)} (n=1)"
    none = [variant.label for variant in comparison.variants if not variant.finished]
    if none:
        yield f"no run has finished: {_named(none)}"
    twice = [
        variant.label
        for variant in comparison.variants
        if len(variant.finished) < sum(run.status == "finished" for run in variant.runs)
    ]
    if twice:
        yield f"several runs have one seed, of which the latest counts: {_named(twice)}"
    for block in comparison.blocks():
        sets = {frozenset(variant.finished) for variant in block if variant.finished}
        if len(sets) > 1:
            yield f"not all have the same seeds, of which each pair is compared on the common ones: {_labels(block)}"


def _of_configs(comparison: Comparison) -> Iterator[str]:
    for block in comparison.blocks():
        others = [
            key
            for key in comparison.keys
            if key not in comparison.by and len({variant.keys[key] for variant in block}) > 1
        ]
        if others:
            yield f"{_labels(block)} differ in more than {', '.join(comparison.by)}: {', '.join(others)}"


def _of_circumstances(comparison: Comparison) -> Iterator[str]:
    """Code, versions and machines, over all finished runs."""
    seen: dict[str, set[str]] = {}
    for variant in comparison.variants:
        for run in variant.finished.values():
            versions = run.results.get("versions") or {}
            for name, version in versions.items():
                seen.setdefault(f"versions of {name}", set()).add(str(version))
            if run.results.get("code"):
                seen.setdefault("code of convbench", set()).add(str(run.results["code"]))
            if run.results.get("device"):
                seen.setdefault("device", set()).add(str(run.results["device"]))
    for name, values in sorted(seen.items()):
        if len(values) > 1:
            what = (
                "seconds, images/s and memory are not comparable" if name == "device" else "results may differ by that"
            )
            yield f"runs differ in their {name} ({_named(sorted(values))}): {what}"


def _labels(block: Sequence[Variant]) -> str:
    return _named([variant.label for variant in block])


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
