"""The requests of a mount that many threads answer: counted, waited for, given up; what they ask is not its matter."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from errno import EINTR, EIO
from typing import TypeVar

from cvfs.fuse.io_errors import IOErrors
from cvfs.fuse.workers import Workers

Answer = TypeVar("Answer")
Ask = Callable[[bool], Answer]
"""Called with `wait`; without it raises BlockingIOError instead of waiting."""

BEGINS_WITHIN = 30.0
"""Seconds that a request waits for the mount to begin with its work."""

_LOOK_EVERY = 0.05
_SETTLING_STEP = 0.002


class Calls:
    """Answers on the spot what is at hand; what has to wait is done by a worker, so that who asked can be interrupted.

    `is_interrupted` is asked, in the thread of a request, whether the process that waits for it was sent a signal.
    """

    def __init__(self, workers: int, is_interrupted: Callable[[], bool]) -> None:
        self._workers = Workers(workers)
        self._is_interrupted = is_interrupted
        self._begun = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._active: set[int] = set()
        self._counts: dict[str, int] = {}
        self._waiting = 0
        self._io_errors = IOErrors()

    def begin(self) -> None:
        """Requests are answered from now on; those that came before have waited."""
        self._begun.set()

    def stop(self) -> None:
        """Nobody waits any more."""
        self._stopping = True
        self._begun.set()
        self._workers.stop()

    def drain(self, timeout: float) -> bool:
        """After `stop`: wait up to `timeout` seconds for the workers; False if one has not ended."""
        return self._workers.drain(timeout)

    def wait_begun(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until requests are answered; False if they are not."""
        return self._begun.wait(timeout) and not self._stopping

    @contextlib.contextmanager
    def counted(self, operation: str) -> Iterator[None]:
        """One request, as long as it is being answered. Raises OSError if the mount does not serve."""
        with self._lock:
            number = next(self._numbers)
            self._active.add(number)
            self._counts[operation] = self._counts.get(operation, 0) + 1
        try:
            if not self._begun.is_set():
                self._begun.wait(BEGINS_WITHIN)
            if self._stopping or not self._begun.is_set():
                raise OSError(EIO, "the mount does not serve")
            yield
        finally:
            with self._lock:
                self._active.discard(number)

    def answer(self, ask: Ask[Answer], undo: Callable[[Answer], None] = lambda _: None) -> Answer:
        """What `ask` says; `undo` is called with an answer that comes when nobody waits for it any more.

        Raises what `ask` raises, and InterruptedError.
        """
        try:
            return ask(False)
        except BlockingIOError:
            return self._wait_for(self._hand_over(ask), undo)

    def _hand_over(self, ask: Ask[Answer]) -> "Future[Answer]":
        future: Future[Answer] = Future()
        with self._lock:
            self._workers.submit(lambda: _fulfil(future, ask))
        return future

    def _wait_for(self, future: "Future[Answer]", undo: Callable[[Answer], None]) -> Answer:
        with self._lock:
            self._waiting += 1
        try:
            while not _is_done(future, _LOOK_EVERY):
                if self._stopping or self._is_interrupted():
                    future.add_done_callback(lambda late: _undo(late, undo))
                    raise InterruptedError(EINTR, "interrupted")
            return future.result()
        finally:
            with self._lock:
                self._waiting -= 1

    def settle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every request that is being answered now has been; False if not all were."""
        deadline = time.monotonic() + timeout
        with self._lock:
            present = set(self._active)
        while present & self._active:
            if time.monotonic() > deadline:
                return False
            time.sleep(_SETTLING_STEP)
        return True

    def note_io_error(self) -> None:
        """EIO was the answer."""
        self._io_errors.note()

    def io_errors(self) -> tuple[int, float]:
        """How often EIO was the answer, and the Unix time of the last one (0: never)."""
        return self._io_errors.count, self._io_errors.last

    def reset_io_errors(self) -> None:
        """Count anew."""
        self._io_errors = IOErrors()

    def counters(self) -> dict[str, int]:
        """Requests so far, by name of the operation."""
        with self._lock:
            return self._counts.copy()

    def in_flight(self) -> int:
        """Requests that wait for a worker."""
        return self._waiting


def _fulfil(future: "Future[Answer]", ask: Ask[Answer]) -> None:
    """In a worker."""
    try:
        future.set_result(ask(True))
    except BaseException as error:
        future.set_exception(error)


def _is_done(future: "Future[Answer]", timeout: float) -> bool:
    try:
        future.exception(timeout)
    except TimeoutError:
        return False
    return True


def _undo(late: "Future[Answer]", undo: Callable[[Answer], None]) -> None:
    if late.exception() is None:
        undo(late.result())
