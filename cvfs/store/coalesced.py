"""Many askers, one fetch: requests for an object that is already on its way wait for it; it remembers nothing beyond."""

import os
import threading

from cvfs.errors import CvfsError, Unreachable
from cvfs.store.base import Contents, Wanted

PATIENCE = 600.0


class Coalesced:
    """The first who asks for an object, the leader, fetches it; followers get a descriptor of their own, or its error.

    Followers wait at most `patience` seconds. Whatever became of a fetch, the next request begins anew.
    """

    def __init__(self, contents: Contents, patience: float = PATIENCE) -> None:
        self._contents = contents
        self._patience = patience
        self._flights: dict[Wanted, _Flight] = {}
        self._lock = threading.Lock()

    def open(self, wanted: Wanted) -> int:
        """See `Contents.open`."""
        with self._lock:
            flight = self._flights.get(wanted)
            if flight is not None:
                landed = flight.follow()
            else:
                leading = self._flights[wanted] = _Flight()
        return self._follow(wanted, flight, landed) if flight is not None else self._lead(wanted, leading)

    def open_present(self, wanted: Wanted) -> int | None:
        """See `Contents.open_present`."""
        return self._contents.open_present(wanted)

    def waiting(self) -> int:
        """How many requests wait for another one's fetch."""
        with self._lock:
            return sum(flight.followers for flight in self._flights.values())

    def _lead(self, wanted: Wanted, flight: "_Flight") -> int:
        error: CvfsError | None = None
        descriptor = None
        try:
            descriptor = self._contents.open(wanted)
        except CvfsError as failure:
            error = failure
            raise
        finally:
            with self._lock:
                del self._flights[wanted]
                if flight.followers:
                    flight.land(descriptor, error or _abandoned(wanted))
        return descriptor

    def _follow(self, wanted: Wanted, flight: "_Flight", landed: threading.Event) -> int:
        landed.wait(self._patience)
        with self._lock:
            if landed.is_set():
                return flight.take()
            flight.followers -= 1
        raise Unreachable(f"{wanted.path}: another request fetches it and is not done after {self._patience:g} s")


def _abandoned(wanted: Wanted) -> CvfsError:
    return Unreachable(f"{wanted.path}: the request that fetched it was abandoned, ask again")


class _Flight:
    """One fetch under way. Everything but the waiting happens under the lock of its owner."""

    def __init__(self) -> None:
        self.followers = 0
        # Made by the first follower: most fetches have none.
        self._landed: threading.Event | None = None
        self._descriptors: list[int] = []
        self._error: CvfsError | None = None

    def follow(self) -> threading.Event:
        """One more follower, who waits for this."""
        self.followers += 1
        self._landed = self._landed or threading.Event()
        return self._landed

    def land(self, descriptor: int | None, error: CvfsError) -> None:
        """One descriptor for each follower, as far as there are any; the error for the others."""
        self._error = error
        if descriptor is not None:
            try:
                while len(self._descriptors) < self.followers:
                    self._descriptors.append(os.dup(descriptor))
            except OSError as failure:
                self._error = Unreachable(f"no descriptor left for a request that waited: {failure.strerror}")
        assert self._landed is not None
        self._landed.set()

    def take(self) -> int:
        if self._descriptors:
            return self._descriptors.pop()
        assert self._error is not None
        raise self._error
