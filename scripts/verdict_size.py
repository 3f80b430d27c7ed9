"""Simulate the rate of false positives of the report's verdicts: `python scripts/verdict_size.py [--write]`.

The script draws accuracies of two equally good variants, and counts how often the function of the report that judges
runs calls one of them better. It does so for several sizes of the test set, numbers of seeds, statistical tests and
distributions of accuracy. It writes the rates to docs/verdict_size.json and to a section of docs/comparison.md. With
`--write` it simulates nothing, and only writes the section.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pages import markdown_table, write_section

from convbench.files import to_json
from convbench.report.measured import Measured
from convbench.report.verdicts import judge

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "verdict_size.json"
PAGE = ROOT / "docs" / "comparison.md"

IMAGES = (64, 1_000, 10_000)
SEEDS = (2, 3, 5, 10)
TESTS = ("t", "wilcoxon")
EXPERIMENTS = 4_000
LIMIT = 0.065  # the significance level of 5 %, plus 1.5 points for the random error of the simulation
DISPUTED = (0.02, 0.1)  # share of images that one variant always classifies correctly, and the other one never

Counts = tuple[np.ndarray, np.ndarray]  # numbers of correct images of two variants, each (experiments, seeds)
Generator = np.random.Generator


def wide(images: int, shape: tuple[int, int], draw: Generator) -> Counts:
    """Accuracies of about 75 % that differ in every run; the runs of a seed share half of the variance."""
    level = np.clip(0.75 + draw.normal(0, (0.75 * 0.25 / images) ** 0.5, shape), 0, 1)
    return draw.binomial(images, level), draw.binomial(images, level)


def tied(images: int, shape: tuple[int, int], draw: Generator) -> Counts:
    """Accuracies of about 98 %; half of the runs differ by one image from the accuracy that their seed gives."""
    return _around_a_seed(images, shape, draw, 0.5)


def nearly_equal(images: int, shape: tuple[int, int], draw: Generator) -> Counts:
    """Accuracies of about 98 %; one run in ten differs by one image from the accuracy that its seed gives."""
    return _around_a_seed(images, shape, draw, 0.1)


def _around_a_seed(images: int, shape: tuple[int, int], draw: Generator, share: float) -> Counts:
    """Counts of correct images of which a share differs by one image from the count that the seed gives."""
    seed = draw.binomial(images, 0.98, shape)
    steps = [draw.choice([-1, 0, 1], shape, p=[share / 2, 1 - share, share / 2]) for _ in range(2)]
    first, second = (np.clip(seed + step, 0, images) for step in steps)
    return first, second


KINDS: dict[str, tuple[str, Callable[[int, tuple[int, int], Generator], Counts]]] = {
    "wide": ("75 %, all runs differ", wide),
    "tied": ("98 %, half the runs differ by an image", tied),
    "nearly_equal": ("98 %, a tenth of the runs differs by an image", nearly_equal),
}


def other_images(images: int, shape: tuple[int, int], draw: Generator, disputed: float) -> Counts:
    """Accuracies of variants that are equally good on the population of images, on a random test set.

    A share `disputed` of the population is always classified correctly by one variant and never by the other one. Each
    variant is the better one on half of these images in the population, but not in the test set. Of the other images,
    75 % are classified correctly on average, and a tenth depends on the run.
    """
    experiments = shape[0]
    only_first = draw.binomial(images, disputed / 2, (experiments, 1))
    only_second = draw.binomial(images - only_first, disputed / 2 / (1 - disputed / 2))
    always = draw.binomial(images - only_first - only_second, 0.7)
    sometimes = draw.binomial(images - only_first - only_second - always, 1 / 3)
    return tuple(  # type: ignore[return-value]
        always + own + draw.binomial(np.broadcast_to(sometimes, shape), 0.5) for own in (only_first, only_second)
    )


def share_of_verdicts(counts: Counts, images: int, test: str, is_paired: bool) -> float:
    """The share of experiments in which the report would call one variant better."""
    positives = 0
    for first, second in zip(*counts, strict=True):
        seeds = range(len(first)) if is_paired else range(len(first), 2 * len(first))
        pair = (
            Measured({seed: 100 * int(count) / images for seed, count in enumerate(first)}, images),
            Measured({seed: 100 * int(count) / images for seed, count in zip(seeds, second, strict=True)}, images),
        )
        positives += judge([pair], test)[0].is_significant
    return positives / len(counts[0])


def measure(experiments: int = EXPERIMENTS, images: tuple[int, ...] = IMAGES, seeds: tuple[int, ...] = SEEDS) -> Any:
    """Rates of false positives, by distribution, pairing, test, size of the test set and number of seeds."""
    draw = np.random.default_rng(0)
    rows = []
    for kind, is_paired, test in itertools.product(KINDS, (True, False), TESTS):
        for m, n in itertools.product(images, seeds):
            counts = KINDS[kind][1](m, (experiments, n), draw)
            share = share_of_verdicts(counts, m, test, is_paired)
            rows.append({"kind": kind, "paired": is_paired, "test": test, "images": m, "seeds": n, "share": share})
    others = []
    for disputed, m, n in itertools.product(DISPUTED, images, seeds):
        counts = other_images(m, (experiments, n), draw, disputed)
        share = share_of_verdicts(counts, m, "t", True)
        others.append({"disputed": disputed, "images": m, "seeds": n, "share": share})
    return {"experiments": experiments, "limit": LIMIT, "seeds_differ": rows, "images_differ": others}


def section(measured: Any) -> list[str]:
    """The tables of the largest rate over tests and pairing for each distribution, and of the rates for `DISPUTED`."""
    rows = measured["seeds_differ"]
    head = ["test images", *(f"n={n}" for n in SEEDS)]
    parts = [
        f"`python scripts/verdict_size.py` simulates {measured['experiments']:,} experiments for each rate, with two "
        "equally good variants, judged by the function that judges the runs of a report. The tables show the rate of "
        "false positives, the share of experiments in which one variant is called better: the largest rate of the "
        f"paired and unpaired t-test and rank test ({len(TESTS) * 2} rates each).",
    ]
    for kind, (title, _) in KINDS.items():
        table = [
            [f"{m:,}", *(_percent(max(_shares(rows, kind=kind, images=m, seeds=n))) for n in SEEDS)] for m in IMAGES
        ]
        parts += ["", f"Accuracies of {title}:", "", *markdown_table(head, table, left=0)]
    parts += [
        "",
        f"The largest of all {len(rows)} rates is {_percent(max(_shares(rows)))}.",
        "",
        "The next table is for variants that are equally good on the population of images, but not on the test set, "
        "because one variant always classifies some images correctly that the other one never does (paired t-test):",
        "",
        *markdown_table(
            ["share of such images", *head],
            [
                [_percent(disputed), f"{m:,}"]
                + [
                    _percent(max(_shares(measured["images_differ"], disputed=disputed, images=m, seeds=n)))
                    for n in SEEDS
                ]
                for disputed in DISPUTED
                for m in IMAGES
            ],
            left=0,
        ),
    ]
    return parts


def _shares(rows: list[dict[str, Any]], **wanted: Any) -> list[float]:
    return [row["share"] for row in rows if all(row[key] == value for key, value in wanted.items())]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    """Simulate unless `--write` is given, write the section, and fail if a rate exceeds the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--write", action="store_true", help="simulate nothing; only write the section of docs/comparison.md"
    )
    if not parser.parse_args().write:
        MEASURED.write_text(to_json(measure(), indent=1) + "\n")
    measured = json.loads(MEASURED.read_text())
    write_section(PAGE, "size", "verdict_size.py", section(measured))
    over = [row for row in measured["seeds_differ"] if row["share"] > LIMIT]
    if over:
        raise SystemExit(f"rates above the limit of {LIMIT:.1%}: {over}")


if __name__ == "__main__":
    main()
