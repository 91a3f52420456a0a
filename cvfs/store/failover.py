"""Several ways to the same content as one store: the best one is asked, then others, under one deadline for all of them.

It never looks at bytes.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cvfs.errors import MissingObject, Trouble, Unreachable
from cvfs.store.base import Way
from cvfs.store.routes import Route, Routes
from cvfs.store.search import Search

# What failed is remembered for so many objects, and at most that many seconds.
_REMEMBERED = 1000
_LONGEST_MEMORY = 2.0


class _Failure(NamedTuple):
    """What a request came to that failed, and until when that counts."""

    until: float
    message: str
    trouble: Trouble


class Failover:
    """A store over all ways of `routes`; `way` gives the store behind one of them.

    Unreachable moves on to another way, MissingObject to another server for this request alone; nothing is missing as
    long as a server that might have it is out of reach. A stream that breaks is begun again by another way, and what was
    given already is left out: whoever asked sees one stream. A request that nobody answers ends within twice the
    time-out, all ways and repetitions together; while no way works at all, all but one now and then fail at once.

    `server` admits no other server, and `share` is the part of the time that its requests then have. `tend` is called
    before every request; it waits for nothing.
    """

    def __init__(
        self,
        routes: Routes,
        way: Callable[[Route], Way],
        *,
        server: str | None = None,
        share: float = 1.0,
        sleep: Callable[[float], object] = time.sleep,
        tend: Callable[[], None] = lambda: None,
    ) -> None:
        self._routes = routes
        self._way = way
        self._server = server
        self._tend = tend
        self._share = share
        self._sleep = sleep
        self._failed: dict[str, _Failure] = {}
        self._lock = threading.Lock()

    def fetch(self, path: str, *, fresh: int = 0, span: tuple[int, int] | None = None) -> Iterator[bytes]:
        """See `Store.fetch`."""
        given = 0
        with self._admitted(path):
            search = self._search(path, fresh)
            for route, seconds in search.ways():
                skipped, new = given, False
                try:
                    for piece in self._way(route).fetch(path, fresh=fresh, span=span, patience=seconds):
                        self._routes.answered(route)
                        kept = piece[skipped:]
                        skipped = max(0, skipped - len(piece))
                        if kept:
                            given, new = given + len(kept), True
                            yield kept
                    _refuse_shorter(path, skipped)
                except MissingObject as error:
                    search.missed(route, error)
                except Unreachable as error:
                    search.failed(route, error, flowed=new)
                else:
                    return search.succeeded(route)

    def has(self, path: str) -> bool:
        """See `Store.has`."""
        with self._admitted(path):
            search = self._search(path, 0)
            try:
                for route, seconds in search.ways():
                    try:
                        there = self._way(route).has(path, patience=seconds)
                    except Unreachable as error:
                        search.failed(route, error, flowed=False)
                        continue
                    if there:
                        self._routes.answered(route)
                        search.succeeded(route)
                        return True
                    search.missed(route, MissingObject(f"{path}: not there"))
            except MissingObject:
                return False
        raise AssertionError

    def __str__(self) -> str:
        """The server that is asked, for messages."""
        return self._server or self._routes.server

    def _search(self, path: str, fresh: int) -> Search:
        doubted = self._routes.choose(path, server=self._server) if fresh > 1 else None
        if doubted:
            self._routes.doubt(doubted, f"{path} came with wrong bytes twice from {doubted}")
        return Search(self._routes, path, self._sleep, server=self._server, doubted=doubted, share=self._share)

    @contextlib.contextmanager
    def _admitted(self, path: str) -> Iterator[None]:
        """While offline a request fails at once, and so does one that has just failed: the kernel asks twice."""
        self._tend()
        began = self._routes.clock()
        self._refuse_repetition(path, began)
        if not self._routes.admit():
            raise Unreachable(f"{path}: offline: {self._routes.offline_reason()}", Trouble.NOT_CONNECTED)
        try:
            yield
        except Unreachable as error:
            self._remember(path, began, error)
            raise
        finally:
            self._routes.settle()

    def _refuse_repetition(self, path: str, now: float) -> None:
        failure = self._failed.get(path)
        if failure and now < failure.until:
            raise Unreachable(failure.message, failure.trouble)

    def _remember(self, path: str, began: float, error: Unreachable) -> None:
        """What took long to fail fails at once for a moment."""
        now, timeout = self._routes.clock(), self._routes.timeouts.proxied
        if now - began < timeout / 2:
            return
        with self._lock:
            if len(self._failed) >= _REMEMBERED:
                self._failed.clear()
            # Not the error itself: it holds on to every caller's variables, and to old revisions with them.
            self._failed[path] = _Failure(now + min(timeout, _LONGEST_MEMORY), str(error), error.trouble)


def _refuse_shorter(path: str, missing: int) -> None:
    if missing:
        raise Unreachable(f"{path}: {missing} bytes shorter than what came of it by another way")
