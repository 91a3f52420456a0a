"""The most that something ever was, looked at again and again: at one moment, which no look afterwards would tell."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Peak:
    """The largest of each of the numbers that `measure` gives while `running`."""

    def __init__(self, measure: Callable[[], tuple[int, ...]], every: float) -> None:
        self._measure = measure
        self._every = every
        self._stop = threading.Event()
        self.largest: tuple[int, ...] = ()

    @contextmanager
    def running(self) -> Iterator["Peak"]:
        """Look every so many seconds."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            now = self._measure()
            self.largest = tuple(map(max, self.largest, now)) if self.largest else now
