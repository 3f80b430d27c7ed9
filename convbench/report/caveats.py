"""Warnings about the validity of a comparison, as sentences."""

from collections.abc import Iterator, Sequence

from convbench.report import computation
from convbench.report.measured import SPLITS, accuracies, compared_split, image_count, is_valid_accuracy
from convbench.report.variants import Comparison, Variant
from convbench.report.verdicts import is_at_chance
from convbench.report.wording import MAX_NAMED, named
from convbench.run_folders.record import RunRecord


def caveats(comparison: Comparison, runs: Sequence[RunRecord]) -> list[str]:
    """Return the warnings that a reader needs to judge a comparison, one sentence each.

    Args:
        comparison: the variants.
        runs: all runs that were found, including those that have not finished.
    """
    return [
        *_unfinished_runs(runs),
        *_seeds(comparison),
        *_other_varied_keys(comparison),
        *_accuracies(comparison),
        *_images(comparison),
        *computation.caveats(comparison),
        *_incomplete_records(comparison),
    ]


def _unfinished_runs(runs: Sequence[RunRecord]) -> Iterator[str]:
    unfinished = [run for run in runs if run.status != "finished"]
    for run in unfinished[:MAX_NAMED]:
        yield f"{run.folder.name} is left out: {run.status}" + (f", {run.error}" if run.error else "")
    if len(unfinished) > MAX_NAMED:
        yield f"{len(unfinished) - MAX_NAMED} more runs are left out: they are not finished"


def _seeds(comparison: Comparison) -> Iterator[str]:
    """Warn of variants with too few runs, duplicate seeds or seeds that other variants lack."""
    single = [variant.label for variant in comparison.variants if len(variant.finished) == 1]
    if single:
        yield f"a single run does not show how much results vary between seeds: {named(single)} (n=1)"
    none = [variant.label for variant in comparison.variants if not variant.finished]
    if none:
        yield f"these variants have no finished run: {named(none)}"
    duplicated = [
        variant.label
        for variant in comparison.variants
        if len(variant.finished) < sum(run.status == "finished" for run in variant.runs)
    ]
    if duplicated:
        yield f"several runs have the same seed, and only the latest of them counts: {named(duplicated)}"
    for block in comparison.blocks():
        sets = {frozenset(variant.finished) for variant in block if variant.finished}
        if len(sets) > 1:
            yield (
                "the variants do not all have the same seeds, so each pair is compared on its common seeds: "
                f"{_labels(block)}"
            )


def _other_varied_keys(comparison: Comparison) -> Iterator[str]:
    """Warn of variants that are compared although they differ in other keys, too."""
    for block in comparison.blocks():
        others = [
            key
            for key in comparison.keys
            if key not in comparison.by and len({variant.keys[key] for variant in block}) > 1
        ]
        if others:
            yield (
                f"{_labels(block)} differ not only in {', '.join(comparison.by)}, but also in {', '.join(others)}, "
                "which may be the reason for differences"
            )


def _accuracies(comparison: Comparison) -> Iterator[str]:
    """Warn of runs without a valid accuracy, accuracies at the level of chance and constant predictions."""
    split = compared_split(comparison.variants)
    finished = [run for variant in comparison.variants for run in variant.finished.values()]
    without = [run.folder.name for run in finished if not is_valid_accuracy(run.score(split, "accuracy"))]
    if without:
        yield (
            f"these runs have no valid accuracy on the {SPLITS[split]} images and are left out of the accuracies: "
            f"{named(without)}"
        )
    at_chance = [variant for variant in comparison.variants if is_at_chance(accuracies(variant, split))]
    if at_chance:
        chance = ", ".join(sorted({f"{accuracies(variant, split).chance:.3g} %" for variant in at_chance}))
        yield (
            f"the accuracy is not better than that of guessing, {chance}, so the {SPLITS[split]} images do not show "
            f"that these networks have learned anything: {named([variant.label for variant in at_chance])}"
        )
    for variant in comparison.variants:
        one_class = [str(seed) for seed, run in variant.finished.items() if run.score(split, "predicted_classes") == 1]
        if one_class:
            yield f"{variant.label}: one and the same class is predicted for every image at seed {named(one_class)}"


def _images(comparison: Comparison) -> Iterator[str]:
    """Warn of runs of one variant that had different images, and of variants that were tested on different images."""
    split = compared_split(comparison.variants)
    for variant in comparison.variants:
        if differing := _differing_splits(list(variant.finished.values())):
            names = " and ".join(SPLITS[name] for name in differing)
            yield f"{variant.label}: not all runs had the same {names} images"
    for block in comparison.blocks():
        if split in _differing_splits([run for variant in block for run in variant.finished.values()]):
            yield (
                f"not all runs were tested on the same {SPLITS[split]} images, so differences may come from the "
                f"images: {_labels(block)}"
            )


def _differing_splits(runs: Sequence[RunRecord]) -> list[str]:
    # Digests of pixels and of files differ even for the same images, so only digests of one kind are compared.
    digests: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for key, digest in run.digests().items():
            digests.setdefault(key, set()).add(digest)
    differing = {split for (split, _), values in digests.items() if len(values) > 1}
    return [split for split in SPLITS if split in differing]


def _incomplete_records(comparison: Comparison) -> Iterator[str]:
    """Warn of runs of older versions, whose records lack the number of images or how the run was computed."""
    split = compared_split(comparison.variants)
    runs = [run for variant in comparison.variants for run in variant.finished.values()]
    uncounted = [run.folder.name for run in runs if image_count(run, split) is None]
    if uncounted:
        yield (
            f"the records do not state the number of {SPLITS[split]} images, so only the variation between seeds is "
            f"tested: {named(uncounted)}"
        )
    unrecorded = [run.folder.name for run in runs if not run.records_parts]
    if unrecorded:
        yield f"the records are of an older version and do not fully state how runs were computed: {named(unrecorded)}"


def _labels(block: Sequence[Variant]) -> str:
    return named([variant.label for variant in block])
