"""One request's search for a way that gives an answer: which way next, how long it may take, who is to blame. Sends nothing.

Time-outs are repeated once on a fresh connection before anybody is blamed. A peer that does not even accept a connection is
left at once; everything else is judged by evidence: when another way has done better.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cvfs.errors import MissingObject, Trouble, Unreachable
from cvfs.store.patience import Patience
from cvfs.store.proxies import DIRECT
from cvfs.store.routes import Route, Routes

_log = logging.getLogger(__name__)

_NETWORK = {Trouble.NOT_CONNECTED, Trouble.SILENT, Trouble.GATEWAY}
_SERVERS = {Trouble.GATEWAY, Trouble.STATUS}
# Streams that break again and again after new bytes came are given up at last.
_MOST_ATTEMPTS = 24
_MOST_FLOWS = 4


class _Failure(NamedTuple):
    route: Route
    error: Unreachable
    began: float


class Search:
    """The ways for one request. Iterate over `ways`, tell each one's outcome; it ends by raising the final error.

    `server` admits no other server. `doubted` is a way that gave bad copies: it comes last. `share` is the part of the
    whole patience that this request has.
    """

    def __init__(
        self,
        routes: Routes,
        path: str,
        sleep: Callable[[float], object],
        *,
        server: str | None = None,
        doubted: Route | None = None,
        share: float = 1.0,
    ) -> None:
        self._routes = routes
        self._path = path
        self._sleep = sleep
        self._server = server
        self._share = share
        self._doubted = doubted
        self._bad = [doubted] if doubted else []
        self._began = self._attempt = routes.clock()
        self._patience: Patience | None = None
        self._failures: list[_Failure] = []
        self._tried: set[tuple[str, str]] = set()
        self._again: Route | None = None
        self._absent: set[str] = set()
        self._missing: MissingObject | None = None
        self._rounds = self._attempts = self._flows = 0

    def ways(self) -> Iterator[tuple[Route, float]]:
        """Each way with the seconds that it has for the first byte. Raises MissingObject or Unreachable in the end."""
        while True:
            route = self._next()
            if route is None:
                self._end_of_round()
                continue
            self._attempt = self._routes.clock()
            self._attempts += 1
            yield route, self._seconds(route)

    def missed(self, route: Route, error: MissingObject) -> None:
        """The server has no such object: an answer. The next one may have it."""
        self._missing = error
        self._absent.add(route.server)
        self._routes.answered(route)
        self._routes.worked(route)

    def failed(self, route: Route, error: Unreachable, *, flowed: bool) -> None:
        """No answer this way, or a broken one; `flowed` if new bytes had come before."""
        failure = _Failure(route, error, self._attempt)
        self._failures.append(failure)
        self._bad.append(route)
        if flowed:
            self._flowed()
        if error.trouble is Trouble.NOT_CONNECTED:
            self._blame_nearest(failure)
        elif error.trouble not in _NETWORK:
            self._routes.answered(route)
        if error.trouble is Trouble.SILENT and self._again is None and not self._routes.is_down(route):
            self._again = route
        else:
            self._tried.add(route[:2])

    def succeeded(self, route: Route) -> None:
        """All bytes came this way: those that failed before did worse. Where bad copies came, nobody knows yet if it did."""
        self._routes.answered(route)
        if self._doubted is None:
            self._routes.worked(route)
        for failure in self._failures:
            self._judge(failure, route)

    def _flowed(self) -> None:
        """Silence begins anew: a limited number of times, because a peer may stall behind every byte."""
        if self._patience and self._flows < _MOST_FLOWS:
            self._flows += 1
            self._patience.flowed(self._routes.clock())

    def _next(self) -> Route | None:
        if self._attempts >= _MOST_ATTEMPTS or (self._patience and self._patience.exhausted(self._routes.clock())):
            return None
        if not self._attempts and not self._bad:
            return self._routes.choose(self._path, server=self._server)
        return self._choose()

    def _choose(self, besides: Route | None = None) -> Route | None:
        def accept(route: Route) -> bool:
            return (
                route[:2] not in self._tried and route.server not in self._absent and route[:2] != (besides or ())[:2]
            )

        again = self._repetition() if besides is None else None
        if again:
            return again
        if self._doubted and not self._attempts:
            other = self._elsewhere(self._doubted)
            if other:
                return other
        return self._routes.choose(self._path, server=self._server, failed=self._bad, accept=accept)

    def _elsewhere(self, doubted: Route) -> Route | None:
        """A way with nothing of the one that gave bad copies, or with little of it, even if it was down lately."""
        tests: tuple[Callable[[Route], bool], ...] = (
            lambda route: route.server != doubted.server and route.proxy != doubted.proxy,
            lambda route: route.server != doubted.server,
            lambda route: route.proxy != doubted.proxy,
        )
        found = (self._routes.choose(self._path, server=self._server, accept=test) for test in tests)
        return next(filter(None, found), None)

    def _repetition(self) -> Route | None:
        """The first way that was silent, once more, on a fresh connection; nothing if it was found to be down meanwhile."""
        if self._again is None or self._again[:2] in self._tried:
            return None
        again = self._routes.choose(self._path, server=self._server, accept=self._again.same)
        self._tried.add(self._again[:2])
        if again is None or self._routes.is_down(again):
            return None
        self._routes.retried()
        return again

    def _seconds(self, route: Route) -> float:
        now = self._routes.clock()
        if self._patience is None:
            timeouts = self._routes.timeouts
            timeout = timeouts.direct if route.proxy == DIRECT else timeouts.proxied
            self._patience = Patience(timeout * self._share, now)
        last = bool(self._failures) and self._choose(besides=route) is None
        return self._patience.share(now, last=last)

    def _blame_nearest(self, failure: _Failure) -> None:
        """Nobody accepted the connection: that is the proxy's fault, or the server's if there is no proxy."""
        if failure.route.proxy == DIRECT:
            self._routes.server_failed(failure.route, str(failure.error))
        else:
            self._routes.proxy_failed(failure.route, str(failure.error))

    def _judge(self, failure: _Failure, good: Route) -> None:
        """Who is to blame for a failure, now that it is known that `good` works."""
        bad, error, began = failure
        reason = f"{error}; {good} answers"
        if error.trouble is Trouble.NOT_CONNECTED or bad.same(good):
            return
        if bad.proxy == good.proxy:
            if not self._routes.has_worked(bad.server, began):
                self._routes.server_failed(bad, reason)
        elif bad.server == good.server:
            if not self._routes.has_worked(bad.proxy, began):
                self._routes.proxy_failed(bad, reason)
        elif not self._routes.has_worked(bad.server, began) and not self._routes.has_worked(bad.proxy, began):
            self._routes.suspect(bad, reason, server_first=error.trouble in _SERVERS)

    def _end_of_round(self) -> None:
        """No way is left: once more after a pause, if the network may be to blame, else the final error is raised."""
        if self._missing and not self._failures:
            raise self._absence(self._missing)
        now = self._routes.clock()
        hopeful = not self._missing and any(failure.error.trouble in _NETWORK for failure in self._failures)
        patient = self._patience is not None and not self._patience.exhausted(now)
        if not (hopeful and patient and self._rounds < self._routes.policy.retries):
            raise self._final_error()
        self._rounds += 1
        self._routes.retried()
        self._sleep(self._pause(now))
        self._tried.clear()
        self._again = None
        self._bad.clear()

    def _pause(self, now: float) -> float:
        policy = self._routes.policy
        most = min(policy.backoff_first * 2 ** (self._rounds - 1), policy.backoff_most)
        assert self._patience is not None
        return self._patience.pause(self._routes.random.uniform(most / 2, most), now)

    def _absence(self, missing: MissingObject) -> MissingObject | Unreachable:
        """Nothing is missing as long as a server that might have it is out of reach."""
        servers = {self._server} if self._server else {state.url for state in self._routes.servers()}
        out_of_reach = servers - self._absent
        if not out_of_reach:
            return missing
        return Unreachable(f"{missing}; {min(filter(None, out_of_reach))} might have it, but is out of reach")

    def _final_error(self) -> Unreachable:
        """What the request ends with. If nothing was heard from anybody, the network is gone."""
        last = self._failures[-1].error if self._failures else Unreachable("no way is up", Trouble.NOT_CONNECTED)
        error = Unreachable(f"{self._path}: no way gives an answer, the last one: {last}", last.trouble)
        for failure in self._failures:
            if failure.error.trouble is Trouble.SILENT and not self._worked_since(failure):
                self._blame_nearest(failure)
        if self._is_outage():
            self._routes.all_failed(str(last))
        return error

    def _worked_since(self, failure: _Failure) -> bool:
        peers = (failure.route.server, failure.route.proxy)
        return any(self._routes.has_worked(peer, failure.began) for peer in peers)

    def _is_outage(self) -> bool:
        """Whether this request shows that no way leads anywhere: it may have asked one server only."""
        if self._missing or self._routes.has_answered(self._began):
            return False
        if any(failure.error.trouble not in _NETWORK for failure in self._failures):
            return False
        return self._server is None or len(self._routes.servers()) == 1
