"""Which way, server and proxy, a request goes: the thread-safe memory of what worked. It sends nothing itself.

Every change of way is logged in one line with its reason. Clocks and randomness are passed in.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from cvfs.errors import UsageError
from cvfs.store.outage import Outage
from cvfs.store.patience import Timeouts
from cvfs.store.proxies import AUTO, DIRECT, WITHOUT_PROXY, ProxyChain, format_groups, parse_chain, shown
from cvfs.store.proxy_groups import ProxyGroups, ProxyState
from cvfs.store.server_list import ServerList, ServerState

_log = logging.getLogger(__name__)

_LONGEST_TIMEOUT = 86400.0


class Route(NamedTuple):
    """One way to the repository. `generation` tells what was known when it was chosen."""

    server: str
    proxy: str
    generation: tuple[int, int] = (0, 0)

    def same(self, other: "Route") -> bool:
        """Whether both are the same way, whenever they were chosen."""
        return self[:2] == other[:2]

    def __str__(self) -> str:
        return self.server if self.proxy == DIRECT else f"{self.server} via {shown(self.proxy)}"


class Failovers(NamedTuple):
    """How often the proxy and the host were left, and requests were repeated, since the start."""

    proxy: int = 0
    host: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """How ways are chosen. Times in seconds; a reset after 0 seconds means never."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    proxy_reset_after: float = 300
    host_reset_after: float = 1800
    retries: int = 1
    backoff_first: float = 2
    backoff_most: float = 10
    shard: bool = False


class Routes:
    """The servers and proxies of one repository, and which of them are in use. Safe for any number of threads.

    Raises UsageError for proxies or servers that make no sense, when they are given.
    """

    def __init__(
        self,
        servers: Sequence[str],
        chain: ProxyChain = WITHOUT_PROXY,
        policy: RoutePolicy = RoutePolicy(),
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        if not servers:
            raise UsageError("no server known, set CVMFS_SERVER_URL")
        self.policy = policy
        self.clock = clock
        self.random = random or Random()  # noqa: S311 - spreads load, hides nothing
        self._wall = wall
        self._lock = threading.Lock()
        self._servers = ServerList(servers)
        self._proxies = ProxyGroups(chain, self.random, shard=policy.shard)
        self._outage = Outage(policy.backoff_first, policy.backoff_most)
        self._timeouts = policy.timeouts
        self._failovers = Failovers()
        self._proxy_reset_at = self._host_reset_at = float("inf")
        self._worked: dict[str, float] = {}
        self._last_answer = float("-inf")
        self._instead: dict[str, str] = {}
        self._fallback = format_groups(chain.groups[chain.fallback :])
        self._current: Route | None = None

    # What the control socket shows.

    def servers(self) -> tuple[ServerState, ...]:
        """All servers in order of preference."""
        with self._lock:
            return self._servers.states()

    @property
    def server(self) -> str:
        """The URL of the server in use."""
        with self._lock:
            return self._servers.active

    def proxy_groups(self) -> tuple[tuple[ProxyState, ...], ...]:
        """All groups in order of preference, those of the fallback last."""
        with self._lock:
            return self._proxies.states()

    @property
    def proxy(self) -> str:
        """The proxy in use, or DIRECT."""
        return self._proxies.active

    @property
    def group(self) -> int:
        """The number of the group in use, from 0."""
        return self._proxies.group

    @property
    def timeouts(self) -> Timeouts:
        """The time-outs in force."""
        return self._timeouts

    @property
    def failovers(self) -> Failovers:
        """Counters for observation."""
        return self._failovers

    @property
    def offline_since(self) -> float | None:
        """Unix time since which no way has worked at all; None when the last request for the network succeeded."""
        return self._outage.since

    def fallback(self) -> str:
        """The fallback proxies as they are written in a configuration."""
        return self._fallback

    # What the control socket changes.

    def set_proxies(self, text: str) -> None:
        """Other proxies, written as in CVMFS_HTTP_PROXY; `auto` is known at a mount only."""
        self._set_chain(parse_chain(text, self._fallback))

    def set_fallback(self, text: str) -> None:
        """Other fallback proxies, written as in CVMFS_FALLBACK_PROXY."""
        new = parse_chain(self._proxies.chain.written, text)
        self._fallback = format_groups(new.groups[new.fallback :])
        self._set_chain(new)

    def rebalance(self) -> None:
        """Choose at random among the proxies of the first group again."""
        with self._changing("rebalanced on demand"):
            self._proxies.rebalance()

    def switch_proxy(self) -> None:
        """Use another proxy of the active group."""
        with self._changing("on demand"):
            self._proxies.switch_proxy()

    def switch_proxy_group(self) -> None:
        """Use the next group."""
        with self._changing("on demand"):
            self._proxies.switch_group()
            self._note_disturbed()

    def set_servers(self, servers: Sequence[str]) -> None:
        """Other servers, or the same ones in another order."""
        if not servers:
            raise UsageError("no server given")
        with self._changing("server list set"):
            self._servers.set_servers(tuple(url.rstrip("/") for url in servers))

    def switch_server(self) -> None:
        """Use the next server."""
        with self._changing("on demand"):
            self._servers.switch()
            self._note_disturbed()

    def set_timeouts(self, proxied: float, direct: float) -> None:
        """Other time-outs, in seconds."""
        if not (0 < proxied <= _LONGEST_TIMEOUT and 0 < direct <= _LONGEST_TIMEOUT):
            raise UsageError(f"time-outs of {proxied} s and {direct} s: both must be positive, of a day at most")
        self._timeouts = replace(self._timeouts, proxied=proxied, direct=direct)

    def order_servers(self, probe: Callable[[tuple[str, ...]], Mapping[str, float]], most: int | None = None) -> None:
        """Order the servers by the seconds that `probe` finds for them, those it does not find last; keep the first `most`.

        See `server_order` for the probe.
        """
        known = self._servers.urls
        found = probe(known)
        with self._changing("ordered by round trip"):
            self._servers.set_round_trips(found)
        self.set_order(sorted(known, key=lambda url: found.get(url, float("inf"))), "ordered by round trip", most)

    def set_order(self, order: Sequence[str], reason: str, most: int | None = None) -> None:
        """The same servers in another order, or the first `most` of them; ignored if other servers were set meanwhile."""
        with self._changing(reason):
            if set(order) == set(self._servers.urls) and tuple(order[:most]) != self._servers.urls:
                self._servers.set_servers(order[:most])

    # What requests ask and tell.

    def choose(
        self,
        path: str = "",
        *,
        server: str | None = None,
        failed: Sequence[Route] = (),
        accept: Callable[[Route], bool] | None = None,
    ) -> Route | None:
        """The best way among those that `accept` admits; None if there is none. Only `server` is asked if it is given.

        A way that shares neither server nor proxy with those in `failed` is better than one that does, and what is known
        to be down comes last.
        """
        route = self._current
        usual = not (server or failed or accept)
        if route and usual and self.clock() < self._reset_at():
            return route
        with self._lock:
            restored = self._restore_preferred()
            ways = self._ways(path, server, failed)
            found = next((way for way in ways if accept is None or accept(way)), None)
            if usual and not self.policy.shard:
                self._current = found
        if restored:
            _log.info("trying the preferred way again: %s", restored)
        return found

    def admit(self) -> bool:
        """Whether a request may go to the network now: while offline only one at a time may, now and then.

        Who was admitted calls `settle` when it is done.
        """
        if self._outage.since is None:
            return True
        with self._lock:
            return self._outage.admit(self.clock())

    def settle(self) -> None:
        """An admitted request is over."""
        if self._outage.since is not None:
            with self._lock:
                self._outage.settle()

    def offline_reason(self) -> str:
        """Why no way worked last time."""
        return self._outage.reason

    def answered(self, route: Route) -> None:
        """A first byte came this way: the network is there."""
        self._last_answer = self.clock()
        if self._outage.since is not None:
            with self._lock:
                news = self._outage.end()
            if news:
                _log.warning("online again: %s answers", route)

    def worked(self, route: Route) -> None:
        """A request got all that it wanted this way: neither server nor proxy is down."""
        self._worked[route.server] = self._worked[route.proxy] = self.clock()
        if self._disturbed:
            with self._lock:
                self._servers.absolve(route.server)
                self._proxies.absolve(route.proxy)

    def is_down(self, route: Route) -> bool:
        """Whether its server or its proxy is known to be down."""
        with self._lock:
            return route.server in self._servers.left_out() or route.proxy in self._proxies.left_out()

    def has_answered(self, since: float) -> bool:
        """Whether any byte came by any way after `since`, a time of `clock`."""
        return self._last_answer >= since

    def has_worked(self, peer: str, since: float) -> bool:
        """Whether any request got all it wanted by this server or proxy after `since`, a time of `clock`."""
        return self._worked.get(peer, float("-inf")) >= since

    def proxy_failed(self, route: Route, reason: str) -> None:
        """The proxy itself is down, or did worse than another one. Ignored if DIRECT, or no news."""
        if route.proxy == DIRECT:
            return
        with self._changing(reason):
            if self._fail_proxy(route):
                self._absolve(route.proxy)

    def server_failed(self, route: Route, reason: str) -> None:
        """The server itself is down, or did worse than another one. Ignored if that is no news."""
        with self._changing(reason):
            if self._fail_server(route):
                self._absolve(route.server)

    def suspect(self, route: Route, reason: str, *, server_first: bool) -> None:
        """Server or proxy is to blame, nobody knows which: one of them is left, until the other one is found guilty."""
        with self._changing(reason):
            if server_first or route.proxy == DIRECT:
                if self._fail_server(route):
                    self._instead[route.proxy] = route.server
            elif self._fail_proxy(route):
                self._instead[route.server] = route.proxy

    def doubt(self, route: Route, reason: str) -> None:
        """Bad copies came this way. Server or proxy is left if that leaves another one: else it may be the object's."""
        with self._changing(reason):
            if len(list(self._servers.in_order())) > 1:
                self._fail_server(route)
            elif route.proxy != DIRECT and len(list(self._proxies.in_order())) > 1:
                self._fail_proxy(route)

    def retried(self) -> None:
        """A request was repeated."""
        with self._lock:
            self._failovers = self._failovers._replace(retries=self._failovers.retries + 1)

    def all_failed(self, reason: str) -> None:
        """A request found no way that works: offline, until one does."""
        with self._lock:
            news = self._outage.begin(self.clock(), self._wall(), reason)
        if news:
            # Where nothing has worked yet, who asks is told by the error itself.
            level = logging.WARNING if self._last_answer > float("-inf") else logging.INFO
            _log.log(level, "offline, only what is cached can be read: %s", reason)

    def proxy_names(self) -> tuple[str, ...]:
        """The proxies as they were configured, before a name became several addresses."""
        return tuple(proxy for group in self._proxies.chain.groups for proxy in group if proxy != DIRECT)

    def set_addresses(self, proxy: str, addresses: tuple[str, ...]) -> None:
        """The addresses of a proxy's name: with several of them, each is a proxy of its group."""
        with self._changing(f"{shown(proxy)} has {len(addresses)} addresses"):
            self._proxies.set_addresses(proxy, addresses)

    def _fail_proxy(self, route: Route) -> bool:
        news = self._proxies.fail(route.proxy, route.generation[0])
        if news:
            self._failovers = self._failovers._replace(proxy=self._failovers.proxy + 1)
            self._note_disturbed()
        return news

    def _fail_server(self, route: Route) -> bool:
        news = self._servers.fail(route.server, route.generation[1])
        if news:
            self._failovers = self._failovers._replace(host=self._failovers.host + 1)
            self._note_disturbed()
        return news

    def _absolve(self, guilty: str) -> None:
        """Who was left on suspicion only, in the place of the one that was guilty, is used again."""
        innocent = self._instead.pop(guilty, None)
        if innocent is not None:
            self._proxies.absolve(innocent)
            self._servers.absolve(innocent)

    def _ways(self, path: str, server: str | None, failed: Sequence[Route]) -> list[Route]:
        """All ways, best first: two servers through each proxy, then the other servers; those known to be down last."""
        generation = (self._proxies.generation, self._servers.generation)
        proxies, spare_proxies = list(self._proxies.in_order(path)), self._proxies.left_out()
        servers, spare_servers = list(self._servers.in_order()), self._servers.left_out()
        if server:
            servers, spare_servers = [server], []
        down = {*spare_proxies, *spare_servers}

        def rank(place: tuple[int, int, Route]) -> tuple[bool, int, int, int, int]:
            proxy, server, way = place
            shared = sum((way.server == bad.server) + (way.proxy == bad.proxy) for bad in failed)
            return not down.isdisjoint(way[:2]), shared, server // 2, proxy, server

        places = [
            (i, j, Route(s, p, generation))
            for i, p in enumerate((*proxies, *spare_proxies))
            for j, s in enumerate((*servers, *spare_servers))
        ]
        return [way for *_, way in sorted(places, key=rank)]

    def _set_chain(self, chain: ProxyChain) -> None:
        if AUTO in sum(chain.groups, ()):
            raise UsageError("auto: proxies are discovered when a repository is mounted, give their names")
        with self._changing("proxies set"):
            self._proxies.set_chain(chain)

    @contextmanager
    def _changing(self, reason: str) -> Iterator[None]:
        """Changes under the lock; what is in use afterwards is logged if it is not what was before."""
        with self._lock:
            proxy, server = self._proxies.active, self._servers.active
            try:
                yield
            finally:
                self._current = None
                now_proxy, now_server = self._proxies.active, self._servers.active
        if now_proxy != proxy:
            _log.warning("switching proxy from %s to %s: %s", shown(proxy), shown(now_proxy), reason)
        if now_server != server:
            _log.warning("switching host from %s to %s: %s", server, now_server, reason)

    @property
    def _disturbed(self) -> bool:
        return self._proxies.disturbed or self._servers.disturbed

    def _reset_at(self) -> float:
        return min(self._proxy_reset_at, self._host_reset_at)

    def _note_disturbed(self) -> None:
        """From the first disturbance on the time runs until the preferred ways are tried again."""
        now, never = self.clock(), float("inf")
        if self._proxies.disturbed and self._proxy_reset_at == never and self.policy.proxy_reset_after:
            self._proxy_reset_at = now + self.policy.proxy_reset_after
        if self._servers.disturbed and self._host_reset_at == never and self.policy.host_reset_after:
            self._host_reset_at = now + self.policy.host_reset_after

    def _restore_preferred(self) -> Route | None:
        """If the time is over the preferred proxy and host are tried again: what is in use then, if it is something else."""
        now = self.clock()
        if now < self._reset_at():
            return None
        before = self._proxies.active, self._servers.active
        if now >= self._proxy_reset_at:
            self._proxy_reset_at = float("inf")
            self._proxies.restore()
        if now >= self._host_reset_at:
            self._host_reset_at = float("inf")
            self._servers.restore()
        self._current = None
        after = self._proxies.active, self._servers.active
        return Route(after[1], after[0]) if after != before else None
