"""Threads that wait for requests: who is woken, what is queued, how they end."""

import threading
import time

import pytest

from cvfs.fuse.workers import Workers

DEADLINE = 10.0


@pytest.fixture
def started():
    made = []

    def start(limit: int) -> Workers:
        made.append(Workers(limit))
        return made[-1]

    yield start
    for workers in made:
        workers.stop()
        assert workers.drain(DEADLINE)


def wait_idle(workers: Workers, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while len(workers._idle) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def busy(workers: Workers, count: int) -> tuple[threading.Event, list[str]]:
    """That many jobs which wait for the event; who did them, in the order of their ends."""
    go, names, begun = threading.Event(), [], threading.Semaphore(0)

    def job() -> None:
        begun.release()
        go.wait(DEADLINE)
        names.append(threading.current_thread().name)

    for _ in range(count):
        workers.submit(job)
    for _ in range(min(count, workers._limit)):
        assert begun.acquire(timeout=DEADLINE)
    return go, names


def test_a_job_wakes_whoever_slept_last(started):
    workers = started(3)
    go, _ = busy(workers, 3)
    go.set()
    wait_idle(workers, 3)
    last, done = workers._idle[-1].name, []
    for number in range(1, 6):
        workers.submit(lambda: done.append(threading.current_thread().name))
        wait_idle(workers, 3)
        assert done == [last] * number


def test_no_more_threads_than_allowed_and_the_rest_in_order(started):
    workers, done = started(2), []
    go, _ = busy(workers, 2)
    for number in range(5):
        workers.submit(lambda number=number: done.append(number))
    assert len(workers._threads) == 2
    assert done == []
    workers.stop()
    go.set()
    assert workers.drain(DEADLINE), "what was submitted is done before the end"
    assert sorted(done) == list(range(5))


def test_a_job_that_fails_ends_no_thread(started, caplog):
    workers, done = started(1), threading.Event()
    workers.submit(lambda: 1 // 0)
    workers.submit(done.set)
    assert done.wait(DEADLINE)
    assert "job failed" in caplog.text


def test_after_the_end_nothing_is_taken(started):
    workers = started(2)
    go, _ = busy(workers, 1)
    go.set()
    workers.stop()
    assert workers.drain(DEADLINE)
    with pytest.raises(RuntimeError, match="stopped"):
        workers.submit(lambda: None)


def test_many_jobs_are_each_done_once(started):
    workers, done, all_done = started(8), [], threading.Semaphore(0)

    def job(number: int) -> None:
        done.append(number)
        all_done.release()

    for number in range(5000):
        workers.submit(lambda number=number: job(number))
    for _ in range(5000):
        assert all_done.acquire(timeout=DEADLINE)
    assert sorted(done) == list(range(5000))
