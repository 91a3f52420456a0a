"""Stores that count what passes through them, one for each way, made when the way is first used; they change nothing."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cvfs.store.base import Way
from cvfs.store.http import HttpStore
from cvfs.store.routes import Route


class Traffic(NamedTuple):
    """Requests made, whether they were answered or not, bytes received, and the seconds that took, since the start."""

    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Counted:
    """Counts the fetches from `store`, the bytes they brought and the time from request to last byte."""

    def __init__(self, store: Way) -> None:
        self._store = store
        self._traffic = Traffic()
        self._lock = threading.Lock()

    @property
    def traffic(self) -> Traffic:
        """The counts so far."""
        return self._traffic

    def fetch(
        self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None, patience: float | None = None
    ) -> Iterator[bytes]:
        """See `Way.fetch`."""
        received, began = 0, time.monotonic()
        try:
            for piece in self._store.fetch(path, fresh=fresh, span=span, patience=patience):
                received += len(piece)
                yield piece
        finally:
            self._add(received, time.monotonic() - began)

    def has(self, path: str, *, patience: float | None = None) -> bool:
        """See `Way.has`."""
        return self._store.has(path, patience=patience)

    def close(self) -> None:
        """Close the connections of a store that has any."""
        if isinstance(self._store, HttpStore):
            self._store.close()

    def _add(self, received: int, seconds: float) -> None:
        with self._lock:
            before = self._traffic
            self._traffic = Traffic(before.requests + 1, before.bytes + received, before.seconds + seconds)


# A proxy's name may get other addresses every minute for a year, and each store keeps idle connections.
_MOST_WAYS = 256


class CountedWays:
    """The stores behind the ways that were used, each made by `make` when it is first asked for.

    They are bounded in number: of too many the oldest is closed and forgotten, but for its counts.
    """

    def __init__(self, make: Callable[[Route], Way]) -> None:
        self._make = make
        self._stores: dict[tuple[str, str], Counted] = {}
        self._forgotten = Traffic()
        self._lock = threading.Lock()

    def __call__(self, route: Route) -> Counted:
        """The store behind a way."""
        return self._stores.get(route[:2]) or self._new(route)

    def traffic(self) -> Traffic:
        """The counts of all ways together."""
        with self._lock:
            return _sum([self._forgotten, *(store.traffic for store in self._stores.values())])

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            stores = list(self._stores.values())
        for store in stores:
            store.close()

    def _new(self, route: Route) -> Counted:
        surplus = None
        with self._lock:
            if route[:2] not in self._stores and len(self._stores) >= _MOST_WAYS:
                surplus = self._stores.pop(next(iter(self._stores)))
                self._forgotten = _sum([self._forgotten, surplus.traffic])
            store = self._stores.setdefault(route[:2], Counted(self._make(route)))
        if surplus:
            surplus.close()
        return store


def _sum(counts: Sequence[Traffic]) -> Traffic:
    return Traffic(sum(c.requests for c in counts), sum(c.bytes for c in counts), sum(c.seconds for c in counts))
