"""What a mount does once a minute besides answering: books of the cache, bounds of the table of numbers; it fetches nothing."""

import gc
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from cvfs.client.volume import Volume

log = logging.getLogger(__name__)

INTERVAL = 60.0
# A number costs about half a kilobyte here, and more in the kernel.
MAX_INODES = 200_000


class Pruner(Protocol):
    """The mount's side that can be asked to forget."""

    def prune(self, nodes: Iterable[int]) -> None:
        """Let the kernel give back numbers that nobody uses."""


class Upkeep:
    """A thread that works once a minute. `chores` are done as well, each whatever becomes of the others."""

    def __init__(
        self,
        volume: Volume,
        pruner: Pruner,
        max_inodes: int = MAX_INODES,
        chores: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._volume = volume
        self._pruner = pruner
        self._chores = (self._write_books, self._bound_numbers, _let_go_of_failures, *chores)
        self._max_inodes = max_inodes
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="upkeep", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end; does not wait for it."""
        self._stopped.set()

    def work(self) -> None:
        """One round. Trouble is logged: a year of rounds follows."""
        for chore in self._chores:
            try:
                chore()
            except Exception:
                log.exception("the upkeep of the mount failed")

    def _write_books(self) -> None:
        cache = self._volume.repository.plane.cache
        if cache:
            cache.flush()

    def _bound_numbers(self) -> None:
        # Nothing but a lack of memory would make the kernel let go of what was replaced.
        surplus = self._volume.oldest_files(self._volume.known_inodes() - self._max_inodes)
        surplus += self._volume.replaced()
        if surplus:
            self._pruner.prune(surplus)

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self.work()


def _let_go_of_failures() -> None:
    """Errors refer to themselves by way of their tracebacks, and to the catalogs of old revisions; a collector that goes
    by the number of objects leaves few of them alone for long. They are young: the many old objects are not gone through.
    """
    gc.collect(1)
