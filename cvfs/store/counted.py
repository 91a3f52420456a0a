"""A store that counts what passes through it; it changes nothing."""

import threading
from collections.abc import Iterator
from typing import NamedTuple

from cvfs.store.base import Store
from cvfs.store.http import HttpStore


class Traffic(NamedTuple):
    """Requests made, whether they were answered or not, and bytes received, since the start."""

    requests: int = 0
    bytes: int = 0


class Counted:
    """Counts the fetches from `store` and the bytes they brought."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._traffic = Traffic()
        self._lock = threading.Lock()

    @property
    def traffic(self) -> Traffic:
        """The counts so far."""
        return self._traffic

    def fetch(self, path: str, *, fresh: bool = False, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """See `Store.fetch`."""
        received = 0
        try:
            for piece in self._store.fetch(path, fresh=fresh, span=span):
                received += len(piece)
                yield piece
        finally:
            self._add(received)

    def has(self, path: str) -> bool:
        """See `Store.has`."""
        return self._store.has(path)

    def close(self) -> None:
        """Close the connections of a store that has any."""
        if isinstance(self._store, HttpStore):
            self._store.close()

    def _add(self, received: int) -> None:
        with self._lock:
            self._traffic = Traffic(self._traffic.requests + 1, self._traffic.bytes + received)
