"""Findings of a comparison, as sentences."""

import math

from convbench.report.measured import SPLITS, accuracies, compared_split
from convbench.report.settings import Settings
from convbench.report.statistics import SIGNIFICANT, seeds_needed
from convbench.report.variants import Comparison
from convbench.report.verdicts import MIN_IMAGES, Verdict, judge, min_half_width, min_p, pairs_of

_MAX_FINDINGS = 40
_TESTS = {
    ("t", True): "the paired t-test",
    ("t", False): "Welch's t-test",
    ("wilcoxon", True): "Wilcoxon's signed-rank test",
    ("wilcoxon", False): "the Mann-Whitney rank-sum test",
}


def findings(comparison: Comparison, settings: Settings) -> list[str]:
    """A sentence for each pair of variants that is compared, on the accuracy after the last epoch."""
    split = compared_split(comparison.variants)
    sentences = []
    for block in comparison.blocks():
        pairs = [pair for pair in pairs_of(block) if all(accuracies(variant, split).values for variant in pair)]
        measured = [(accuracies(first, split), accuracies(second, split)) for first, second in pairs]
        for (first, second), verdict in zip(pairs, judge(measured, settings.test), strict=True):
            sentences.append(_Sentence(first.label, second.label, verdict, SPLITS[split], len(pairs), settings).text())
    if len(sentences) > _MAX_FINDINGS:
        return [*sentences[:_MAX_FINDINGS], f"{len(sentences) - _MAX_FINDINGS} more pairs were compared"]
    return sentences


class _Sentence:
    """The sentence on two variants.

    Args:
        first: the label of the first variant.
        second: the label of the second variant.
        verdict: the verdict on the difference, first minus second.
        split: the name in the report of the split on which the variants were tested.
        tests: the number of pairs that are compared together, including this one.
        settings: the settings of the report.
    """

    def __init__(self, first: str, second: str, verdict: Verdict, split: str, tests: int, settings: Settings) -> None:
        self.first, self.second, self.verdict, self.split = first, second, verdict, split
        self.tests, self.settings = tests, settings
        self.mean, self.n, self.images = verdict.seeds.mean, verdict.seeds.n, verdict.images
        self.tested = ""
        if self.images is not None:
            self.tested = f"; {self.images:,} {split} images, one image is {100 / self.images:.2g} points"
        self.unpaired = "" if verdict.seeds.is_paired else ", not paired because they share no seed"

    def text(self) -> str:
        """The sentence, without its full stop."""
        if self.verdict.obstacle is not None:
            return self._no_verdict()
        if self.verdict.is_significant:
            return self._better_or_worse()
        return f"{self._not_distinguishable()}; {self._sample_size()}"

    def _better_or_worse(self) -> str:
        is_better = self.mean > 0
        low, high = (self.verdict.low, self.verdict.high) if is_better else (-self.verdict.high, -self.verdict.low)
        return (
            f"{self.first} is {'better' if is_better else 'worse'} than {self.second} by {abs(self.mean):.1f} points "
            f"(95 % interval {low:.1f} to {high:.1f}, n={self.n}{self.unpaired}{self.tested})"
        )

    def _not_distinguishable(self) -> str:
        return (
            f"{self.first} and {self.second} are not distinguishable at n={self.n}{self.unpaired}: "
            f"the first minus the second is {self.mean:+.1f} points (95 % interval {self.verdict.low:+.1f} to "
            f"{self.verdict.high:+.1f}{self.tested}){self._why_not_significant()}"
        )

    def _why_not_significant(self) -> str:
        """The reason why a difference that is significant over seeds is no finding; otherwise empty."""
        if self.verdict.seeds.p is None or self.verdict.seeds.p >= SIGNIFICANT:
            return ""
        if self.images is not None and min_p(self.mean, self.images) >= SIGNIFICANT:
            count = abs(self.mean) * self.images / 100
            fewest = f"a difference of fewer than {MIN_IMAGES} images is never significant, for any number of seeds"
            return f"; the difference is {count:.3g} images, and {fewest}"
        if self.verdict.p is not None and self.verdict.p < SIGNIFICANT and self.tests > 1:
            return f"; it is not significant after the correction for {self.tests} comparisons"
        return ""

    def _sample_size(self) -> str:
        """The number of seeds or test images that is needed to detect `settings.difference`."""
        wanted, deviation = self.settings.difference, self.verdict.seeds.deviation
        assert deviation is not None
        if (needed := self._images_needed()) is not None:
            images = f"at least {needed:,} {self.split} images"
            return f"{images} are needed to detect {wanted:g} points, for any number of seeds"
        # The interval of a verdict combines two independent parts. The part of the test images is subtracted here, as
        # only the other part shrinks with the number of seeds.
        from_images = 0.0 if self.images is None else min_half_width(wanted, self.images)
        seeds = seeds_needed(deviation, math.sqrt(wanted**2 - from_images**2))
        count = None if seeds is None else max(seeds, self.verdict.seeds.fewest)
        if count is not None and count <= self.n:
            return f"a difference of {wanted:g} points would probably have been detected"
        about = "more than 1000" if count is None else f"about {count}"
        return f"{about} seeds would be needed to detect {wanted:g} points"

    def _images_needed(self) -> int | None:
        """The number of test images for which `settings.difference` can be significant; None if there are enough."""
        needed = math.ceil(100 * MIN_IMAGES / self.settings.difference)
        return needed if self.images is not None and self.images < needed else None

    def _no_verdict(self) -> str:
        """The sentence on a pair without a verdict: the reason, the difference and what is needed."""
        more = "use more seeds" + ("" if self._images_needed() is None else f" and more {self.split} images")
        pair = f"{self.first} and {self.second}"
        result = f"the first minus the second is {self.mean:+.1f} points (n={self.n}{self.unpaired}{self.tested})"
        if self.verdict.obstacle == "at chance":
            return f"{pair} cannot be compared because both accuracies are at the level of chance: {result}"
        if self.verdict.obstacle == "one run":
            runs = "a single run" if self.unpaired else "a single pair of runs"
            return f"{pair} cannot be compared by {runs}, which does not show the effect of chance: {result}; {more}"
        if self.verdict.obstacle == "no spread":
            equal = "all runs of each are equal" if self.unpaired else "every pair of runs has the same difference"
            return (
                f"{pair} cannot be compared because {equal}, which does not show the effect of chance: {result}; {more}"
            )
        test = _TESTS[self.settings.test, self.verdict.seeds.is_paired]
        runs = "pairs of runs" if self.verdict.seeds.is_paired else "runs of each"
        return f"{pair} cannot be compared by {test}, which needs {self.verdict.seeds.fewest} {runs}: {result}; {more}"
