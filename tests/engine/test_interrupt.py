import logging
import signal
import threading
from collections.abc import Iterator

import pytest

from convbench.engine.interrupt import BATCH_SIGNAL, StopRequest, TimeIsUpError, pass_on, sigterm_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks_and_the_second_one_interrupts(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="convbench")
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert caplog.messages == ["stopping after this step, with a checkpoint (again: at once)"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_ctrl_c_after_a_termination_interrupts_at_once() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_come_back_at_the_end_and_after_an_error() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with StopRequest() as stop:
        assert all(signal.getsignal(number) != handler for number, handler in before.items())
    assert {number: signal.getsignal(number) for number in before} == before
    with pytest.raises(ZeroDivisionError), StopRequest():
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in before} == before
    assert not stop.requested


def test_off_the_main_thread_signals_are_left_to_others() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_sigterm_interrupts_like_ctrl_c_and_only_inside_the_block():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def batch_system() -> Iterator[list[int]]:
    """A handler like the one of submitit, which ends the process: here it notes that it was called."""
    called: list[int] = []

    def requeue(number: int, frame: object) -> None:
        called.append(number)
        raise SystemExit(-1)

    before = signal.signal(BATCH_SIGNAL, requeue)
    yield called
    signal.signal(BATCH_SIGNAL, before)


def stop_after(*numbers: signal.Signals, error: type[BaseException] = KeyboardInterrupt) -> None:
    """What the loop does: it hears of signals, saves a checkpoint, and then leaves with an error."""
    with StopRequest() as stop:
        for number in numbers:
            signal.raise_signal(number)
        assert stop.requested
        raise error


def test_the_batch_systems_warning_stops_the_run_first_and_reaches_the_batch_system_after_that(
    batch_system: list[int],
) -> None:
    with pytest.raises(TimeIsUpError) as caught:
        stop_after(BATCH_SIGNAL, BATCH_SIGNAL)
    assert not batch_system, "it would end the process before the checkpoint is written"
    with pytest.raises(SystemExit):
        pass_on(caught.value)
    assert batch_system == [BATCH_SIGNAL]


@pytest.mark.usefixtures("batch_system")
def test_a_termination_before_the_warning_does_not_interrupt_at_once() -> None:
    with pytest.raises(TimeIsUpError):
        stop_after(signal.SIGTERM, BATCH_SIGNAL)


@pytest.mark.usefixtures("batch_system")
def test_a_failure_after_the_warning_stays_that_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        stop_after(BATCH_SIGNAL, error=ZeroDivisionError)


def test_other_interruptions_are_not_passed_on(batch_system: list[int]) -> None:
    pass_on(KeyboardInterrupt())
    assert not batch_system


def test_without_a_batch_system_its_signal_is_left_alone() -> None:
    before = signal.getsignal(BATCH_SIGNAL)
    assert before is signal.SIG_DFL
    with StopRequest():
        assert signal.getsignal(BATCH_SIGNAL) is before
