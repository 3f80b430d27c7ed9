"""The columns of the table of variants: what is shown of a group of runs, and which of two is the better one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from convbench.report.measured import Measured, accuracies
from convbench.report.statistics import estimate
from convbench.report.variants import Variant
from convbench.report.verdicts import Verdict, judge, pairs_of


@dataclass(frozen=True)
class Column:
    """A number of each run, and how its mean over a variant is shown.

    Attributes:
        key: its name in `table.csv`.
        title, unit, help: for a person.
        compute: what the runs of a variant measured, in the unit.
        digits: after the decimal point.
        better: `higher`, `lower`, or empty where neither is.
        has_spread: whether runs of one variant differ in it.
    """

    key: str
    title: str
    unit: str
    help: str
    compute: Callable[[Variant], Measured]
    digits: int = 2
    better: str = ""
    has_spread: bool = True
    _measured: dict[int, Measured] = field(default_factory=dict, repr=False, compare=False)

    @property
    def head(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def measured(self, variant: Variant) -> Measured:
        """What the runs of a variant measured; computed once, as some columns read the metrics of all runs."""
        if id(variant) not in self._measured:
            self._measured[id(variant)] = self.compute(variant)
        return self._measured[id(variant)]

    def values(self, variant: Variant) -> list[float]:
        """A number for each run that has it."""
        return list(self.measured(variant).values.values())

    def text(self, variant: Variant) -> str:
        """`76.20 ± 0.52`: mean and, where the runs have a spread, half the 95 % interval; empty where no run has it."""
        values = self.values(variant)
        if not values:
            return ""
        of_mean = estimate(values)
        mean = f"{of_mean.mean:,.{self.digits}f}"
        if not self.has_spread or of_mean.half_width is None:
            return mean
        return f"{mean} ± {of_mean.half_width:,.{self.digits}f}"

    def mean(self, variant: Variant) -> float | None:
        """Over the runs of a variant."""
        values = self.values(variant)
        return estimate(values).mean if values else None

    def best(self, variants: Sequence[Variant], test: str) -> Variant | None:
        """The variant whose mean is better than that of every other by more than chance, if there is one."""
        means = {id(variant): mean for variant in variants if (mean := self.mean(variant)) is not None}
        if not self.better or len(means) < 2 or len(means) < len(variants):
            return None
        if any(len(self.values(variant)) < len(variant.finished) for variant in variants):
            return None  # those that lack it may be the worst
        sign = 1 if self.better == "higher" else -1
        ranked = sorted(variants, key=lambda variant: -sign * means[id(variant)])
        winner, second = ranked[:2]
        if not self.has_spread:
            return winner if means[id(winner)] != means[id(second)] else None
        # Most columns end with the second: of hundreds of variants not all have to be compared.
        if not all(verdict.is_real for verdict in self._judge([(second, winner)], test)):
            return None
        pairs = pairs_of(ranked)
        verdicts = self._judge(pairs, test)
        is_first = all(verdict.is_real for pair, verdict in zip(pairs, verdicts, strict=True) if winner in pair)
        return winner if is_first else None

    def _judge(self, pairs: Sequence[tuple[Variant, Variant]], test: str) -> list[Verdict]:
        return judge([(self.measured(one), self.measured(other)) for one, other in pairs], test)


def _of_results(score: str, factor: float = 1.0) -> Callable[[Variant], Measured]:
    return lambda variant: Measured({seed: factor * value for seed, value in variant.of_each(score).items()})


def _accuracies(score: str) -> Callable[[Variant], Measured]:
    return lambda variant: accuracies(variant, score)


def columns(target: float | None) -> list[Column]:
    """All columns.

    Args:
        target: validation accuracy from 0 to 1 that training time is measured to; None for no such column.
    """
    chosen = [
        Column(
            "test_accuracy", "test, last", "%",
            "accuracy on the test set with the weights of the last epoch", _accuracies("test"),
            better="higher",
        ),
        Column(
            "test_accuracy_best", "test, best val.", "%",
            "accuracy on the test set with the weights of the epoch of the best validation accuracy",
            _accuracies("best.test"), better="higher",
        ),
        Column(
            "test_loss", "test loss", "", "cross-entropy on the test set, last epoch", _of_results("test.loss"),
            digits=4, better="lower",
        ),
        Column(
            "val_accuracy", "val., last", "%", "accuracy on the validation set, last epoch",
            _accuracies("val"), better="higher",
        ),
        Column(
            "val_accuracy_best", "val., best", "%",
            "best accuracy on the validation set over all epochs; the best of many tries, so too good",
            _accuracies("best.val"), better="higher",
        ),
        Column(
            "params", "parameters", "", "trainable numbers", _of_results("params"), digits=0, better="lower",
            has_spread=False,
        ),
        Column(
            "macs", "MACs", "M", "multiply-accumulate operations for one image, in millions", _of_results("macs", 1e-6),
            better="lower", has_spread=False,
        ),
        Column(
            "seconds_per_epoch", "s/epoch", "", "median over epochs but the first; training steps alone",
            _of_results("seconds_per_epoch"), better="lower",
        ),
        Column(
            "images_per_second", "images/s", "", "training images, median over epochs but the first",
            _of_results("images_per_second"), digits=0, better="higher",
        ),
        Column(
            "peak_memory", "memory", "MB", "the most held at once: tensors on a GPU, the whole process on a CPU",
            _of_results("peak_memory_bytes", 1e-6), digits=0, better="lower",
        ),
    ]  # fmt: skip
    if target is not None:
        chosen.append(
            Column(
                "epochs_to_target", f"epochs to {100 * target:.0f} %", "",
                f"first epoch with {100 * target:.0f} % on the validation set; runs that never got there do not count",
                lambda variant: Measured(epochs_to(variant, target)), digits=1, better="lower",
            )
        )  # fmt: skip
    return chosen


def epochs_to(variant: Variant, target: float) -> dict[int, float]:
    """Seed -> the first epoch with that validation accuracy."""
    reached = {}
    for seed, run in variant.finished.items():
        epochs = (row["epoch"] for row in run.rows if (row.get("val_accuracy") or 0) >= target)
        if (first := next(epochs, None)) is not None:
            reached[seed] = float(first)
    return reached


def common_target(variants: Sequence[Variant]) -> float | None:
    """A validation accuracy, in whole percent, that every variant reaches at its end in the mean of its runs."""
    finals = [list(accuracies(variant, "val").values.values()) for variant in variants]
    means = [estimate(values).mean for values in finals if values]
    return int(min(means)) / 100 if means else None
