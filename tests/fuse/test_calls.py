"""Requests that many threads answer: counted, waited for, interrupted, settled, ended."""

import errno
import threading

import pytest

from cvfs.fuse import calls as calls_module
from cvfs.fuse.calls import Calls

DEADLINE = 20.0


class Slow:
    """Something that has to be waited for."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.release = threading.Event()

    def __call__(self, wait: bool) -> str:
        if not wait:
            raise BlockingIOError
        self.arrived.set()
        assert self.release.wait(DEADLINE)
        return "late"


@pytest.fixture
def slow():
    one = Slow()
    yield one
    one.release.set()


@pytest.fixture
def signals() -> threading.Event:
    return threading.Event()


@pytest.fixture
def calls(signals):
    one = Calls(2, signals.is_set)
    one.begin()
    yield one
    one.stop()


def in_thread(function) -> tuple[threading.Thread, list]:
    outcome: list = []

    def run() -> None:
        try:
            outcome.append(function())
        except OSError as error:
            outcome.append(error.errno)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_what_is_at_hand_is_answered_on_the_spot(calls):
    assert calls.answer(lambda wait: (wait, threading.current_thread())) == (False, threading.current_thread())
    assert calls.in_flight() == 0


def test_what_has_to_wait_is_answered_by_a_worker(calls, slow):
    thread, outcome = in_thread(lambda: calls.answer(slow))
    assert slow.arrived.wait(DEADLINE)
    assert (calls.in_flight(), outcome) == (1, [])
    slow.release.set()
    thread.join(DEADLINE)
    assert outcome == ["late"]
    assert calls.in_flight() == 0


def test_failures_of_workers_reach_who_asked(calls):
    def fail(wait):
        raise ZeroDivisionError if wait else BlockingIOError

    with pytest.raises(ZeroDivisionError):
        calls.answer(fail)


def test_who_waits_can_be_interrupted_and_what_comes_late_is_undone(calls, slow, signals):
    undone: list[str] = []
    thread, outcome = in_thread(lambda: calls.answer(slow, undone.append))
    assert slow.arrived.wait(DEADLINE)
    signals.set()
    thread.join(DEADLINE)
    assert (outcome, undone) == ([errno.EINTR], [])
    slow.release.set()
    calls.stop()
    assert calls.drain(DEADLINE)
    assert undone == ["late"]


def test_the_end_releases_who_waits(calls, slow):
    thread, outcome = in_thread(lambda: calls.answer(slow))
    assert slow.arrived.wait(DEADLINE)
    calls.stop()
    thread.join(DEADLINE)
    assert outcome == [errno.EINTR]
    assert calls.drain(0.01) is False
    with pytest.raises(OSError, match="does not serve"), calls.counted("READ"):
        pass


def test_requests_are_counted_by_name(calls):
    for operation in ("READ", "OPEN", "READ"):
        with calls.counted(operation):
            pass
    assert calls.counters() == {"READ": 2, "OPEN": 1}


def test_requests_wait_until_the_mount_begins():
    early = Calls(1, lambda: False)
    assert early.wait_begun(0.01) is False

    def ask() -> str:
        with early.counted("READ"):
            return early.answer(lambda _wait: "answered")

    thread, outcome = in_thread(ask)
    # Counted as soon as it has come.
    while not early.counters():
        thread.join(0.01)
    assert outcome == []
    early.begin()
    thread.join(DEADLINE)
    assert outcome == ["answered"]
    assert early.wait_begun(0.01) is True


def test_a_mount_that_never_begins_answers_with_an_error(monkeypatch):
    monkeypatch.setattr(calls_module, "BEGINS_WITHIN", 0.01)
    with pytest.raises(OSError, match="does not serve") as caught, Calls(1, lambda: False).counted("READ"):
        pass
    assert caught.value.errno == errno.EIO


def test_settling_waits_for_the_requests_of_now_only(calls, slow):
    assert calls.settle(0.01) is True

    def ask() -> str:
        with calls.counted("READ"):
            return calls.answer(slow)

    thread, _ = in_thread(ask)
    assert slow.arrived.wait(DEADLINE)
    assert calls.settle(0.01) is False
    settling, settled = in_thread(lambda: calls.settle(DEADLINE))
    slow.release.set()
    settling.join(DEADLINE)
    thread.join(DEADLINE)
    assert settled == [True]
