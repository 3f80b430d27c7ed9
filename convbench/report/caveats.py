"""What speaks against believing a comparison, in sentences."""

from collections.abc import Iterator, Sequence

from convbench.report import computation
from convbench.report.measured import SPLITS, accuracies, compared_split, images_of, is_share
from convbench.report.variants import Comparison, Variant
from convbench.report.verdicts import is_at_chance
from convbench.report.wording import MOST_NAMED, named
from convbench.run_folders.record import RunRecord


def caveats(comparison: Comparison, runs: Sequence[RunRecord]) -> list[str]:
    """What a reader has to know before believing any of it.

    Args:
        comparison: the variants.
        runs: all that were found, those that have not finished among them.
    """
    return [
        *_of_runs(runs),
        *_of_pairing(comparison),
        *_of_configs(comparison),
        *_of_accuracies(comparison),
        *_of_images(comparison),
        *computation.caveats(comparison),
        *_of_old_runs(comparison),
    ]


def _of_runs(runs: Sequence[RunRecord]) -> Iterator[str]:
    unfinished = [run for run in runs if run.status != "finished"]
    for run in unfinished[:MOST_NAMED]:
        yield f"{run.folder.name} is not in it: {run.status}" + (f", {run.error}" if run.error else "")
    if len(unfinished) > MOST_NAMED:
        yield f"{len(unfinished) - MOST_NAMED} more runs are not in it: they are not finished"


def _of_pairing(comparison: Comparison) -> Iterator[str]:
    single = [variant.label for variant in comparison.variants if len(variant.finished) == 1]
    if single:
        yield f"one run says nothing of spread: {named(single)} (n=1)"
    none = [variant.label for variant in comparison.variants if not variant.finished]
    if none:
        yield f"no run has finished: {named(none)}"
    twice = [
        variant.label
        for variant in comparison.variants
        if len(variant.finished) < sum(run.status == "finished" for run in variant.runs)
    ]
    if twice:
        yield f"several runs have one seed, of which the latest counts: {named(twice)}"
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


def _of_accuracies(comparison: Comparison) -> Iterator[str]:
    """Runs without one, networks that have learned nothing."""
    split = compared_split(comparison.variants)
    finished = [run for variant in comparison.variants for run in variant.finished.values()]
    without = [run.folder.name for run in finished if not is_share(run.score(split, "accuracy"))]
    if without:
        yield f"no accuracy from 0 to 1 on the {SPLITS[split]} images, so accuracies leave out: {named(without)}"
    guessing = [variant for variant in comparison.variants if is_at_chance(accuracies(variant, split))]
    if guessing:
        chance = ", ".join(sorted({f"{accuracies(variant, split).chance:.3g} %" for variant in guessing}))
        yield (
            f"not better than guessing, which is right in {chance}, so these networks have learned nothing that the "
            f"{SPLITS[split]} images show: {named([variant.label for variant in guessing])}"
        )
    for variant in comparison.variants:
        one_class = [str(seed) for seed, run in variant.finished.items() if run.score(split, "predicted_classes") == 1]
        if one_class:
            yield f"{variant.label}: one and the same class is predicted for every image at seed {named(one_class)}"


def _of_images(comparison: Comparison) -> Iterator[str]:
    """Runs that are pooled and did not have the same images; variants that were not tested on the same ones."""
    split = compared_split(comparison.variants)
    for variant in comparison.variants:
        if differing := _differing_splits(list(variant.finished.values())):
            names = " and ".join(SPLITS[name] for name in differing)
            yield f"{variant.label}: not all runs had the same {names} images"
    for block in comparison.blocks():
        if split in _differing_splits([run for variant in block for run in variant.finished.values()]):
            yield (
                f"not all were tested on the same {SPLITS[split]} images, so differences may come from these: "
                f"{_labels(block)}"
            )


def _differing_splits(runs: Sequence[RunRecord]) -> list[str]:
    # Digests of pixels and digests of files of the same images differ, so only those of one kind are compared.
    digests: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for key, digest in run.digests().items():
            digests.setdefault(key, set()).add(digest)
    differing = {split for (split, _), values in digests.items() if len(values) > 1}
    return [split for split in SPLITS if split in differing]


def _of_old_runs(comparison: Comparison) -> Iterator[str]:
    """Runs whose records lack what a judgement needs."""
    split = compared_split(comparison.variants)
    runs = [run for variant in comparison.variants for run in variant.finished.values()]
    uncounted = [run.folder.name for run in runs if images_of(run, split) is None]
    if uncounted:
        yield (
            f"the records do not say how many {SPLITS[split]} images there were, so verdicts go by the seeds alone: "
            f"{named(uncounted)}"
        )
    unrecorded = [run.folder.name for run in runs if not run.records_parts]
    if unrecorded:
        yield f"the records, of an older version, do not say all of how runs were computed: {named(unrecorded)}"


def _labels(block: Sequence[Variant]) -> str:
    return named([variant.label for variant in block])
