"""What the runs say about the variants, in sentences."""

import math

from convbench.report.measured import SPLITS, accuracies, compared_split
from convbench.report.settings import Settings
from convbench.report.statistics import SIGNIFICANT, seeds_needed
from convbench.report.variants import Comparison
from convbench.report.verdicts import FEWEST_IMAGES, Verdict, judge, least_half_width, least_p, pairs_of

_MOST_FINDINGS = 40
_TESTS = {
    ("t", True): "the paired t-test",
    ("t", False): "Welch's t-test",
    ("wilcoxon", True): "the test of signed ranks",
    ("wilcoxon", False): "the test of rank sums",
}


def findings(comparison: Comparison, settings: Settings) -> list[str]:
    """A sentence for each pair of variants that are compared, on the accuracy after the last epoch."""
    split = compared_split(comparison.variants)
    said = []
    for block in comparison.blocks():
        pairs = [pair for pair in pairs_of(block) if all(accuracies(variant, split).values for variant in pair)]
        measured = [(accuracies(one, split), accuracies(other, split)) for one, other in pairs]
        for (one, other), verdict in zip(pairs, judge(measured, settings.test), strict=True):
            said.append(_Sentence(one.label, other.label, verdict, SPLITS[split], len(pairs), settings).text())
    if len(said) > _MOST_FINDINGS:
        return [*said[:_MOST_FINDINGS], f"{len(said) - _MOST_FINDINGS} more pairs were compared"]
    return said


class _Sentence:
    """On two variants.

    Args:
        one, other: their labels.
        verdict: on them.
        split: on whose images they were tested, as a person calls it.
        tests: how many pairs are compared along with this one.
        settings: of the report.
    """

    def __init__(self, one: str, other: str, verdict: Verdict, split: str, tests: int, settings: Settings) -> None:
        self.one, self.other, self.verdict, self.tests, self.settings = one, other, verdict, tests, settings
        self.mean, self.n, self.images = verdict.seeds.mean, verdict.seeds.n, verdict.images
        each = "" if self.images is None else f"{self.images:,} {split} images, of which each is"
        self.tested = "" if self.images is None else f"; {each} {100 / self.images:.2g} points"
        self.unpaired = "" if verdict.seeds.is_paired else ", not paired, for they share no seed"

    def text(self) -> str:
        """The sentence, without its full stop."""
        if self.verdict.obstacle is not None:
            return self._no_verdict()
        if self.verdict.is_real:
            return self._better_or_worse()
        return f"{self._not_distinguishable()}; {self._plan()}"

    def _better_or_worse(self) -> str:
        is_better = self.mean > 0
        low, high = (self.verdict.low, self.verdict.high) if is_better else (-self.verdict.high, -self.verdict.low)
        return (
            f"{self.one} is {'better' if is_better else 'worse'} than {self.other} by {abs(self.mean):.1f} points "
            f"(95 % interval {low:.1f} to {high:.1f}, n={self.n}{self.unpaired}{self.tested})"
        )

    def _not_distinguishable(self) -> str:
        return (
            f"{self.one} and {self.other} are not distinguishable at n={self.n}{self.unpaired}: "
            f"the one minus the other is {self.mean:+.1f} points (95 % interval {self.verdict.low:+.1f} to "
            f"{self.verdict.high:+.1f}{self.tested}){self._after_all()}"
        )

    def _after_all(self) -> str:
        """Why a difference that the seeds agree on is no finding."""
        if self.verdict.seeds.p is None or self.verdict.seeds.p >= SIGNIFICANT:
            return ""
        if self.images is not None and least_p(self.mean, self.images) >= SIGNIFICANT:
            count = abs(self.mean) * self.images / 100
            return f", which is {count:.3g} images, and fewer than {FEWEST_IMAGES} can be chance whatever the seeds say"
        if self.verdict.p is not None and self.verdict.p < SIGNIFICANT and self.tests > 1:
            return f", but it is one of {self.tests} comparisons"
        return ""

    def _plan(self) -> str:
        """What it would take to see the difference that is wanted."""
        wanted, deviation = self.settings.difference, self.verdict.seeds.deviation
        assert deviation is not None
        if (needed := self._images_needed()) is not None:
            return f"to see {wanted:g} points, at least {needed:,} test images are needed, whatever the seeds"
        # What the test images leave of the difference for the test over seeds.
        taken = 0.0 if self.images is None else least_half_width(wanted, self.images)
        seeds = seeds_needed(deviation, math.sqrt(wanted**2 - taken**2))
        count = None if seeds is None else max(seeds, self.verdict.seeds.fewest)
        if count is not None and count <= self.n:
            return f"a difference of {wanted:g} points would probably have been seen"
        about = "more than 1000" if count is None else f"about {count}"
        return f"{about} seeds would be needed to see {wanted:g} points"

    def _images_needed(self) -> int | None:
        """For the difference that is wanted to be as many images as can be told from chance; None if it is."""
        needed = math.ceil(100 * FEWEST_IMAGES / self.settings.difference)
        return needed if self.images is not None and self.images < needed else None

    def _no_verdict(self) -> str:
        more = "give more seeds" + ("" if self._images_needed() is None else " and more test images")
        pair = f"{self.one} and {self.other}"
        minus = f"the one minus the other is {self.mean:+.1f} points (n={self.n}{self.unpaired}{self.tested})"
        if self.verdict.obstacle == "at chance":
            return f"{pair} cannot be compared, for both are at the level of chance: {minus}"
        if self.verdict.obstacle == "one run":
            runs = "a single run" if self.unpaired else "a single pair of runs"
            return f"{pair} cannot be compared by {runs}, which says nothing of chance: {minus}; {more}"
        if self.verdict.obstacle == "no spread":
            where = "every pair of runs has the same difference" if not self.unpaired else "all runs of each are equal"
            return f"{pair} cannot be compared, for {where}, which says nothing of chance: {minus}; {more}"
        test = _TESTS[self.settings.test, self.verdict.seeds.is_paired]
        what = "pairs of runs" if self.verdict.seeds.is_paired else "runs of each"
        return f"{pair} cannot be compared by {test}, which needs {self.verdict.seeds.fewest} {what}: {minus}; {more}"
