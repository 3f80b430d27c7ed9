import math
import re
from collections.abc import Callable

import pytest

from convbench.engine.schedules import Anneal, Clock, Constant, Cosine, Linear, OneCycle, Schedule, Step
from convbench.errors import UserError

CLOCK = Clock(epochs=10, steps_per_epoch=20)
LAST = 10 * 20  # the index after the last step, where the fraction of the run is 1


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(), {0: 1.0, 1: 1.0, 199: 1.0}),
        (Linear(), {0: 1.0, 50: 0.75, 100: 0.5, 199: 0.005, LAST: 0.0}),
        (Linear(end=0.2), {0: 1.0, 100: 0.6, LAST: 0.2}),
        (Cosine(), {0: 1.0, 50: 0.5 + math.sqrt(0.5) / 2, 100: 0.5, LAST: 0.0}),
        (Cosine(end=0.1), {0: 1.0, 100: 0.55, LAST: 0.1}),
        (
            Step([0.5, 0.75, 0.85]),
            {0: 1.0, 99: 1.0, 100: 0.1, 149: 0.1, 150: 0.01, 169: 0.01, 170: 0.001, 199: 0.001},
        ),
        (Step([0.5], gamma=0.5), {99: 1.0, 100: 0.5, 199: 0.5}),
        (Step([]), {0: 1.0, 199: 1.0}),
        (OneCycle(), {0: 0.04, 30: 0.52, 60: 1.0, 130: (1 + 1e-4) / 2, LAST: 1e-4}),
        (OneCycle(peak=0.5, start=0.2, end=0.0), {0: 0.2, 50: 0.6, 100: 1.0, 150: 0.5, LAST: 0.0}),
    ],
    ids=[
        "constant",
        "linear",
        "linear with end",
        "cosine",
        "cosine with end",
        "step",
        "step with gamma",
        "no milestones",
        "one cycle",
        "one cycle with ends",
    ],
)
def test_each_schedule_has_the_expected_factor_at_known_steps(schedule: Schedule, values: dict[int, float]) -> None:
    assert {step: schedule(step, CLOCK) for step in values} == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("schedule", [Constant(), Linear(), Cosine(), Step([0.3, 0.6]), OneCycle()])
def test_every_factor_of_a_run_is_above_zero_and_at_most_one(schedule: Schedule) -> None:
    assert all(0 < schedule(step, CLOCK) <= 1 for step in range(LAST))


def test_one_cycle_increases_to_its_peak_and_then_decreases() -> None:
    factors = [OneCycle(peak=0.3)(step, CLOCK) for step in range(LAST)]
    assert factors[:61] == sorted(set(factors[:61]))
    assert factors[60:] == sorted(set(factors[60:]), reverse=True)


def test_the_factor_depends_on_the_fraction_of_the_run_and_not_on_its_length() -> None:
    for schedule in (Linear(), Cosine(), Step([0.5]), OneCycle()):
        assert schedule(3, Clock(1, 12)) == pytest.approx(schedule(50, CLOCK))


def test_the_warmup_increases_linearly_from_the_first_step() -> None:
    factors = [Constant(warmup_epochs=2)(step, CLOCK) for step in range(60)]
    assert factors[:40] == pytest.approx([(step + 1) / 40 for step in range(40)])
    assert set(factors[39:]) == {1.0}


def test_the_warmup_may_end_within_an_epoch() -> None:
    assert [Constant(warmup_epochs=0.1)(step, CLOCK) for step in range(3)] == [0.5, 1.0, 1.0]


def test_the_schedule_below_the_warmup_starts_at_step_zero() -> None:
    warmed, plain = Cosine(warmup_epochs=2), Cosine()
    assert warmed(19, CLOCK) == pytest.approx(0.5 * plain(19, CLOCK))
    assert [warmed(step, CLOCK) for step in range(39, LAST)] == [plain(step, CLOCK) for step in range(39, LAST)]


def test_the_temperature_decreases_linearly_from_30_to_1_over_ten_epochs_and_then_is_constant() -> None:
    anneal, clock = Anneal(start=30.0, end=1.0, epochs=10.0), Clock(epochs=40, steps_per_epoch=8)
    temperatures = [anneal(step, clock) for step in range(81)]
    assert temperatures == pytest.approx([30 - 29 * step / 80 for step in range(81)])
    assert {anneal(step, clock) for step in range(80, 320)} == {1.0}


def test_the_temperature_of_a_short_run_does_not_reach_its_end() -> None:
    assert Anneal(30.0, 1.0, 10.0)(39, Clock(epochs=5, steps_per_epoch=8)) == pytest.approx(30 - 29 * 39 / 80)


def test_with_zero_epochs_the_temperature_has_its_final_value_from_the_first_step() -> None:
    assert [Anneal(30.0, 2.0, epochs=0)(step, CLOCK) for step in (0, 1, 199)] == [2.0, 2.0, 2.0]


def test_the_clock_returns_the_fraction_of_the_run_and_the_fractional_epoch() -> None:
    assert [CLOCK.done(step) for step in (0, 50, 200)] == [0.0, 0.25, 1.0]
    assert [CLOCK.epoch(step) for step in (0, 50, 200)] == [0.0, 2.5, 10.0]


@pytest.mark.parametrize(
    ("make", "given", "key"),
    [
        (lambda: Linear(end=1.5), "1.5", "schedule.end"),
        (lambda: Cosine(end=-0.1), "-0.1", "schedule.end"),
        (lambda: OneCycle(start=2), "2", "schedule.start"),
        (lambda: OneCycle(end=2), "2", "schedule.end"),
        (lambda: OneCycle(peak=0), "0", "schedule.peak"),
        (lambda: OneCycle(peak=1.0), "1.0", "schedule.peak"),
        (lambda: Step([0.5, 1.0]), "[0.5, 1.0]", "schedule.milestones"),
        (lambda: Step([0.7, 0.5]), "[0.7, 0.5]", "schedule.milestones"),
        (lambda: Step([30, 60]), "[30, 60]", "schedule.milestones"),
    ],
    ids=[
        "end above 1",
        "end below 0",
        "start above 1",
        "one cycle end",
        "peak 0",
        "peak 1",
        "1.0",
        "unsorted",
        "epochs",
    ],
)
def test_values_out_of_range_are_refused_with_the_value_and_the_key(
    make: Callable[[], object], given: str, key: str
) -> None:
    with pytest.raises(UserError, match=rf"^\w+[= ]{re.escape(given)} .*\({re.escape(key)}\)$"):
        make()
