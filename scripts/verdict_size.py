"""How often is a verdict wrong where there is no difference? `python scripts/verdict_size.py [--write]`.

Draws accuracies of two variants that are equal in truth, has the report's own function judge them, and counts verdicts
that call one better, for several sizes of the test set, numbers of seeds, tests and kinds of chance, into
docs/verdict_size.json. With `--write` nothing is drawn, only the section of docs/comparison.md is written.
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
LIMIT = 0.065  # 5 % and what 1.5 points of the simulation's own chance may add
DISPUTED = (0.02, 0.1)  # share of images that one of two variants always has right and the other always wrong

Counts = tuple[np.ndarray, np.ndarray]  # of correct images, each (experiments, seeds)
Generator = np.random.Generator


def wide(images: int, shape: tuple[int, int], draw: Generator) -> Counts:
    """Networks of 75 % whose every run differs; half of the spread is common to the runs of a seed."""
    level = np.clip(0.75 + draw.normal(0, (0.75 * 0.25 / images) ** 0.5, shape), 0, 1)
    return draw.binomial(images, level), draw.binomial(images, level)


def tied(images: int, shape: tuple[int, int], draw: Generator) -> Counts:
    """Networks of 98 % of which half the runs differ by an image from what their seed gives."""
    return _around_a_seed(images, shape, draw, 0.5)


def nearly_equal(images: int, shape: tuple[int, int], draw: Generator) -> Counts:
    """The same where only one run in ten differs by an image."""
    return _around_a_seed(images, shape, draw, 0.1)


def _around_a_seed(images: int, shape: tuple[int, int], draw: Generator, share: float) -> Counts:
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
    """Networks that are equally good in the mean of all images there are, tested on some of them.

    Some images one variant always has right and the other always wrong, as many for the one as for the other in the
    world, but not among those drawn. On the other images, of which 75 % are right, a tenth is a matter of the run.
    """
    experiments = shape[0]
    won = draw.binomial(images, disputed / 2, (experiments, 1))
    lost = draw.binomial(images - won, disputed / 2 / (1 - disputed / 2))
    easy = draw.binomial(images - won - lost, 0.7)
    open_ = draw.binomial(images - won - lost - easy, 1 / 3)
    return tuple(easy + mine + draw.binomial(np.broadcast_to(open_, shape), 0.5) for mine in (won, lost))  # type: ignore[return-value]


def share_of_verdicts(counts: Counts, images: int, test: str, is_paired: bool) -> float:
    """Of how many experiments the report would say that one variant is better."""
    called = 0
    for first, second in zip(*counts, strict=True):
        seeds = range(len(first)) if is_paired else range(len(first), 2 * len(first))
        pair = (
            Measured({seed: 100 * int(count) / images for seed, count in enumerate(first)}, images),
            Measured({seed: 100 * int(count) / images for seed, count in zip(seeds, second, strict=True)}, images),
        )
        called += judge([pair], test)[0].is_real
    return called / len(counts[0])


def measure(experiments: int = EXPERIMENTS, images: tuple[int, ...] = IMAGES, seeds: tuple[int, ...] = SEEDS) -> Any:
    """Shares of false verdicts, by kind of chance, pairing, test, size of the test set and number of seeds."""
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
    """The tables: by kind of chance, the largest share over tests and pairing; and for other test images."""
    rows = measured["seeds_differ"]
    head = ["test images", *(f"n={n}" for n in SEEDS)]
    parts = [
        f"`python scripts/verdict_size.py`: {measured['experiments']:,} experiments for each number, of two variants "
        "that are equal in truth, judged by the function that judges the runs of a report. Of how many experiments one "
        "variant is called better, the most of the paired and unpaired t-test and test of ranks "
        f"({len(TESTS) * 2} numbers each):",
    ]
    for kind, (title, _) in KINDS.items():
        table = [
            [f"{m:,}", *(_percent(max(_shares(rows, kind=kind, images=m, seeds=n))) for n in SEEDS)] for m in IMAGES
        ]
        parts += ["", f"Networks of {title}:", "", *markdown_table(head, table, left=0)]
    parts += [
        "",
        f"The largest of all {len(rows)} numbers is {_percent(max(_shares(rows)))}.",
        "",
        "Networks that are equally good in the mean of all images there are, but are tested on some of them, which one "
        "variant always has right and the other always wrong, by the paired t-test:",
        "",
        *markdown_table(
            ["of the images in dispute", *head],
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
    """Draw, or write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="only write the section of docs/comparison.md")
    if not parser.parse_args().write:
        MEASURED.write_text(to_json(measure(), indent=1) + "\n")
    measured = json.loads(MEASURED.read_text())
    write_section(PAGE, "size", "verdict_size.py", section(measured))
    over = [row for row in measured["seeds_differ"] if row["share"] > LIMIT]
    if over:
        raise SystemExit(f"over the limit of {LIMIT:.1%}: {over}")


if __name__ == "__main__":
    main()
