"""The columns of the table of variants: how a column is computed and shown, and which variant is best in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from convbench.report.measured import Measured, accuracies
from convbench.report.statistics import estimate
from convbench.report.variants import Variant
from convbench.report.verdicts import Verdict, judge, pairs_of


@dataclass(frozen=True)
class Column:
    """A number of each run, and how its mean over the runs of a variant is shown.

    Attributes:
        key: the name of the column in `table.csv`.
        title, unit, help: the name, the unit and the meaning of the column, as shown in the report.
        compute: returns the number of each run of a variant, in `unit`.
        digits: the number of digits after the decimal point.
        better: `higher` or `lower`; empty if neither is better.
        has_spread: whether the number can differ between runs of one variant.
    """

    key: str
    title: str
    unit: str
    help: str
    compute: Callable[[Variant], Measured]
    digits: int = 2
    better: str = ""
    has_spread: bool = True
    _cache: dict[int, Measured] = field(default_factory=dict, repr=False, compare=False)

    @property
    def head(self) -> str:
        """The heading: title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def measured(self, variant: Variant) -> Measured:
        """The numbers of the runs of a variant. They are cached, as some columns read the metrics files of all runs."""
        if id(variant) not in self._cache:
            self._cache[id(variant)] = self.compute(variant)
        return self._cache[id(variant)]

    def values(self, variant: Variant) -> list[float]:
        """The numbers of the runs of a variant; runs without the number are left out."""
        return list(self.measured(variant).values.values())

    def text(self, variant: Variant) -> str:
        """The text of a cell, such as `76.20 ± 0.52`: mean and half the 95 % confidence interval of the mean.

        The interval is omitted if the runs do not differ. The text is empty if no run has the number.
        """
        values = self.values(variant)
        if not values:
            return ""
        result = estimate(values)
        mean = f"{result.mean:,.{self.digits}f}"
        if not self.has_spread or result.half_width is None:
            return mean
        return f"{mean} ± {result.half_width:,.{self.digits}f}"

    def mean(self, variant: Variant) -> float | None:
        """The mean over the runs of a variant; None if no run has the number."""
        values = self.values(variant)
        return estimate(values).mean if values else None

    def best(self, variants: Sequence[Variant], test: str) -> Variant | None:
        """The variant whose mean is significantly better than that of every other variant; None if there is none.

        Args:
            variants: all variants of the table.
            test: `t` or `wilcoxon`, see `statistics.difference`.
        """
        means = {id(variant): mean for variant in variants if (mean := self.mean(variant)) is not None}
        if not self.better or len(means) < 2 or len(means) < len(variants):
            return None
        if any(len(self.values(variant)) < len(variant.finished) for variant in variants):
            return None  # runs without the number may be the worst ones, such as those that never reach the target
        sign = 1 if self.better == "higher" else -1
        ranked = sorted(variants, key=lambda variant: -sign * means[id(variant)])
        winner, second = ranked[:2]
        if not self.has_spread:
            return winner if means[id(winner)] != means[id(second)] else None
        # In most columns this first test fails, so hundreds of variants need not all be compared.
        if not all(verdict.is_significant for verdict in self._judge([(second, winner)], test)):
            return None
        pairs = pairs_of(ranked)
        verdicts = self._judge(pairs, test)
        is_first = all(verdict.is_significant for pair, verdict in zip(pairs, verdicts, strict=True) if winner in pair)
        return winner if is_first else None

    def _judge(self, pairs: Sequence[tuple[Variant, Variant]], test: str) -> list[Verdict]:
        return judge([(self.measured(first), self.measured(second)) for first, second in pairs], test)


def _result(score: str, factor: float = 1.0) -> Callable[[Variant], Measured]:
    """Return a function that reads a number from the results of each run of a variant and multiplies it by `factor`."""
    return lambda variant: Measured({seed: factor * value for seed, value in variant.values_by_seed(score).items()})


def _accuracy(score: str) -> Callable[[Variant], Measured]:
    """Return a function that reads an accuracy in percent from the results of each run of a variant."""
    return lambda variant: accuracies(variant, score)


def columns(target: float | None) -> list[Column]:
    """All columns of the table.

    Args:
        target: the validation accuracy, from 0 to 1, of the column `epochs_to_target`; None to omit this column.
    """
    chosen = [
        Column(
            "test_accuracy", "test, last", "%",
            "accuracy on the test set with the weights of the last epoch", _accuracy("test"),
            better="higher",
        ),
        Column(
            "test_accuracy_best", "test, best val.", "%",
            "accuracy on the test set with the weights of the epoch of the best validation accuracy",
            _accuracy("best.test"), better="higher",
        ),
        Column(
            "test_loss", "test loss", "", "cross-entropy on the test set, last epoch", _result("test.loss"),
            digits=4, better="lower",
        ),
        Column(
            "val_accuracy", "val., last", "%", "accuracy on the validation set, last epoch",
            _accuracy("val"), better="higher",
        ),
        Column(
            "val_accuracy_best", "val., best", "%",
            "best accuracy on the validation set over all epochs; too high, as it is the maximum of many values",
            _accuracy("best.val"), better="higher",
        ),
        Column(
            "params", "parameters", "", "number of trainable parameters", _result("params"), digits=0, better="lower",
            has_spread=False,
        ),
        Column(
            "macs", "MACs", "M", "multiply-accumulate operations for one image, in millions", _result("macs", 1e-6),
            better="lower", has_spread=False,
        ),
        Column(
            "seconds_per_epoch", "s/epoch", "",
            "time of the training steps of an epoch; median over all epochs except the first",
            _result("seconds_per_epoch"), better="lower",
        ),
        Column(
            "images_per_second", "images/s", "", "training images per second; median over all epochs except the first",
            _result("images_per_second"), digits=0, better="higher",
        ),
        Column(
            "peak_memory", "memory", "MB", "peak memory: of the tensors on a GPU, of the whole process on a CPU",
            _result("peak_memory_bytes", 1e-6), digits=0, better="lower",
        ),
    ]  # fmt: skip
    if target is not None:
        chosen.append(
            Column(
                "epochs_to_target", f"epochs to {100 * target:.0f} %", "",
                f"first epoch with {100 * target:.0f} % on the validation set; runs that never reach it are left out",
                lambda variant: Measured(epochs_to(variant, target)), digits=1, better="lower",
            )
        )  # fmt: skip
    return chosen


def epochs_to(variant: Variant, target: float) -> dict[int, float]:
    """Seed -> the first epoch with at least a given validation accuracy.

    Args:
        variant: the variant; runs that never reach the accuracy are left out.
        target: the validation accuracy, from 0 to 1.
    """
    reached = {}
    for seed, run in variant.finished.items():
        epochs = (row["epoch"] for row in run.rows if (row.get("val_accuracy") or 0) >= target)
        if (first := next(epochs, None)) is not None:
            reached[seed] = float(first)
    return reached


def common_target(variants: Sequence[Variant]) -> float | None:
    """The highest validation accuracy that every variant reaches after its last epoch in the mean of its runs.

    It is from 0 to 1, rounded down to whole percent; None if no run has a validation accuracy.
    """
    accuracies_by_variant = [list(accuracies(variant, "val").values.values()) for variant in variants]
    means = [estimate(values).mean for values in accuracies_by_variant if values]
    return int(min(means)) / 100 if means else None
