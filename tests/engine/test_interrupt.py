import logging
import signal
import threading
from collections.abc import Iterator

import pytest

from convbench.engine.interrupt import BATCH_SIGNAL, StopRequest, TimeIsUpError, call_batch_handler, sigterm_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_requested_and_the_second_one_interrupts(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="convbench")
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert len(caplog.messages) == 1
        assert "checkpoint" in caplog.messages[0]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_sigint_after_sigterm_interrupts_at_once() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signal_handlers_are_restored_at_the_end_and_after_an_error() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with StopRequest() as stop:
        assert all(signal.getsignal(number) != handler for number, handler in before.items())
    assert {number: signal.getsignal(number) for number in before} == before
    with pytest.raises(ZeroDivisionError), StopRequest():
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in before} == before
    assert not stop.requested


def test_stop_request_does_not_change_signal_handlers_outside_the_main_thread() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_sigterm_raises_keyboard_interrupt_only_inside_the_context() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def batch_system() -> Iterator[list[int]]:
    """Install a signal handler that ends the process as the one of submitit does, and records its calls."""
    called: list[int] = []

    def requeue(number: int, frame: object) -> None:
        called.append(number)
        raise SystemExit(-1)

    before = signal.signal(BATCH_SIGNAL, requeue)
    yield called
    signal.signal(BATCH_SIGNAL, before)


def stop_after(*numbers: signal.Signals, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Receive signals and then raise an error, as the training loop does after saving a checkpoint."""
    with StopRequest() as stop:
        for number in numbers:
            signal.raise_signal(number)
        assert stop.requested
        raise error


def test_the_handler_of_the_batch_system_is_called_only_after_the_run_has_stopped(
    batch_system: list[int],
) -> None:
    with pytest.raises(TimeIsUpError) as caught:
        stop_after(BATCH_SIGNAL, BATCH_SIGNAL)
    assert not batch_system, "the handler would end the process before the checkpoint is written"
    with pytest.raises(SystemExit):
        call_batch_handler(caught.value)
    assert batch_system == [BATCH_SIGNAL]


@pytest.mark.usefixtures("batch_system")
def test_the_warning_of_the_batch_system_after_sigterm_does_not_interrupt_at_once() -> None:
    with pytest.raises(TimeIsUpError):
        stop_after(signal.SIGTERM, BATCH_SIGNAL)


@pytest.mark.usefixtures("batch_system")
def test_an_error_after_the_warning_is_not_replaced() -> None:
    with pytest.raises(ZeroDivisionError):
        stop_after(BATCH_SIGNAL, error=ZeroDivisionError)


def test_pass_on_ignores_other_interruptions(batch_system: list[int]) -> None:
    call_batch_handler(KeyboardInterrupt())
    assert not batch_system


def test_without_a_batch_system_its_signal_keeps_the_default_handler() -> None:
    before = signal.getsignal(BATCH_SIGNAL)
    assert before is signal.SIG_DFL
    with StopRequest():
        assert signal.getsignal(BATCH_SIGNAL) is before
