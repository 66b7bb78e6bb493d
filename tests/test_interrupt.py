"""What Ctrl-C and SIGTERM do within the guard, and when they are left alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from xpnet._interrupt import InterruptGuard, Termination

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_the_first_waits_and_the_second_raises(number) -> None:
    with Termination() as termination, InterruptGuard() as interrupt:
        assert not interrupt.requested
        signal.raise_signal(number)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert termination.received == (number == signal.SIGTERM)


@BOTH
def test_one_that_was_held_back_is_passed_on_to_the_guard_around(number) -> None:
    with Termination() as termination, InterruptGuard() as outer:
        with InterruptGuard() as inner:
            signal.raise_signal(number)
        assert not outer.requested
        inner.pass_on()
        assert outer.requested
    assert termination.received == (number == signal.SIGTERM)
    with Termination(), pytest.raises(KeyboardInterrupt):
        outer.pass_on()


def test_sigterm_needs_no_ctrl_c() -> None:
    """A shell lets the commands that it puts into the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Termination(), InterruptGuard() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert not interrupt.requested
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.requested


def test_sigterm_is_a_ctrl_c_outside_of_the_guard() -> None:
    with Termination() as termination:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert termination.received
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_a_program_has_said_about_sigterm_stays() -> None:
    calls = []
    for handler in (signal.SIG_IGN, lambda number, frame: calls.append(number)):
        signal.signal(signal.SIGTERM, handler)
        with Termination() as termination, InterruptGuard() as interrupt:
            signal.raise_signal(signal.SIGTERM)
        assert not termination.received
        assert not interrupt.requested
        assert signal.getsignal(signal.SIGTERM) is handler
    assert calls == [signal.SIGTERM]


def test_without_a_termination_sigterm_is_not_touched() -> None:
    with InterruptGuard():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_thread_leaves_signals_alone() -> None:
    errors = []

    def enter() -> None:
        try:
            with Termination(), InterruptGuard() as interrupt:
                interrupt.pass_on()
        except ValueError as error:  # of signal.signal, in a thread
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert errors == []
