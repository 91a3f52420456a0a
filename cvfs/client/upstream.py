"""A set of servers with the proxies before them, put together from the settings: routes, the stores behind them, names.

A client has one for its repository and, if external contents lie elsewhere, one for those.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cvfs.client.settings.network import NetworkSettings
from cvfs.errors import FormatError, StoreError, UsageError
from cvfs.store.base import Way
from cvfs.store.counted import CountedWays
from cvfs.store.failover import Failover
from cvfs.store.http import HttpOptions, HttpStore
from cvfs.store.local import LocalStore
from cvfs.store.names import NamePolicy, Names
from cvfs.store.pac import discover
from cvfs.store.patience import Timeouts
from cvfs.store.proxies import DIRECT, ProxyChain, expand_auto, parse_chain
from cvfs.store.proxy_names import ProxyNames
from cvfs.store.routes import Route, RoutePolicy, Routes
from cvfs.store.server_order import probe_geo, probe_round_trips

_log = logging.getLogger(__name__)

_FILE_URL = "file://"
_LEAST_SHARE = 0.25
_SCHEMES = ("http://", "https://", _FILE_URL)


@dataclass(frozen=True, slots=True)
class Upstream:
    """Servers, and the ways to them. `max_servers` are kept when they have been put in order."""

    routes: Routes
    ways: CountedWays
    store: Failover
    max_servers: int | None = None

    def mirrors(self, servers: Sequence[str]) -> tuple[Failover, ...]:
        """Each server as a store of its own, asked through the same proxies. As text it is the server's URL.

        Each has its share of the time that a request may take, so that all of them together take little longer.
        """
        share = max(_LEAST_SHARE, 1 / len(servers))
        return tuple(Failover(self.routes, self.ways, server=url, share=share) for url in servers)

    def probe_round_trips(self) -> None:
        """Order the servers by measured round trips; within about twice a time-out."""
        mirrors = {str(mirror): mirror for mirror in self.mirrors([state.url for state in self.routes.servers()])}
        within = 2 * max(self.routes.timeouts.proxied, self.routes.timeouts.direct)
        self.routes.order_servers(lambda _: probe_round_trips(mirrors, within), self.max_servers)

    def probe_geo(self) -> None:
        """Order the servers as the geo API of one of them says. Raises StoreError or FormatError."""
        servers = [state.url for state in self.routes.servers()]
        proxy = self.routes.proxy
        caller = "" if proxy == DIRECT else urlsplit(proxy).hostname or ""
        self.routes.set_order(probe_geo(self.store, servers, caller), "ordered by the geo API", self.max_servers)

    def close(self) -> None:
        """Close all connections."""
        self.ways.close()


def open_upstream(network: NetworkSettings, servers: Sequence[str], chain: ProxyChain, timeouts: Timeouts) -> Upstream:
    """The ways to these servers; contacts nobody. Raises UsageError."""
    for url in servers:
        if not url.startswith(_SCHEMES):
            raise UsageError(f"{url}: not a server URL, it starts with http://, https:// or file://")
    routes = Routes(servers, chain, _policy(network, timeouts))
    names = Names(_name_policy(network))
    headers = network.tracing_headers if network.tracing else ()
    options = HttpOptions(network.follow_redirects, network.certificates, headers)

    def make(route: Route) -> Way:
        if route.server.startswith(_FILE_URL):
            return LocalStore(route.server.removeprefix(_FILE_URL))
        return HttpStore(route.server, route.proxy, lambda: routes.timeouts, options=options, names=names)

    ways = CountedWays(make)
    tend = ProxyNames(routes, names, network.max_addresses, routes.clock)
    return Upstream(routes, ways, Failover(routes, ways, tend=tend))


def own_upstream(network: NetworkSettings) -> Upstream:
    """The repository's servers behind their proxies. Raises UsageError, Unreachable if proxies cannot be found out."""
    timeouts = Timeouts(network.timeout, network.timeout_direct, network.low_speed_limit)
    chain = parse_chain(_discovered(network, network.http_proxy, timeouts), network.fallback_proxy)
    return _ordered(open_upstream(network, network.servers, chain, timeouts), network, network.max_servers)


def external_upstream(network: NetworkSettings) -> Upstream | None:
    """The servers of external contents, if there are any. Raises as `own_upstream`."""
    if not network.external_servers:
        return None
    timeouts = Timeouts(network.external_timeout, network.external_timeout_direct, network.low_speed_limit)
    chain = parse_chain(_discovered(network, network.external_http_proxy, timeouts), network.external_fallback_proxy)
    upstream = open_upstream(network, network.external_servers, chain, timeouts)
    return _ordered(upstream, network, network.external_max_servers)


def _discovered(network: NetworkSettings, proxies: str, timeouts: Timeouts) -> str:
    return expand_auto(proxies, lambda: discover(network.pac_urls, network.servers, timeouts))


def _ordered(upstream: Upstream, network: NetworkSettings, most: int | None) -> Upstream:
    """The servers are put in order by a thread: nobody waits for that. Without an order the first ones are kept."""
    several = len(upstream.routes.servers()) > 1
    kept = Upstream(upstream.routes, upstream.ways, upstream.store, most)
    if several and (network.use_geoapi or network.sort_servers):
        threading.Thread(target=_order, args=(kept, network), name="server-order", daemon=True).start()
    elif most:
        upstream.routes.set_servers([state.url for state in upstream.routes.servers()][:most])
    return kept


def _order(upstream: Upstream, network: NetworkSettings) -> None:
    """Where the geo API does not answer, the round trips are measured."""
    if network.use_geoapi:
        try:
            return upstream.probe_geo()
        except (StoreError, FormatError) as error:
            _log.warning("servers are ordered by measured round trips: %s", error)
    return upstream.probe_round_trips()


def _policy(network: NetworkSettings, timeouts: Timeouts) -> RoutePolicy:
    return RoutePolicy(
        timeouts=timeouts,
        proxy_reset_after=network.proxy_reset_after,
        host_reset_after=network.host_reset_after,
        retries=network.max_retries,
        backoff_first=network.backoff_init,
        backoff_most=network.backoff_max,
        shard=network.proxy_shard,
    )


def _name_policy(network: NetworkSettings) -> NamePolicy:
    return NamePolicy(
        timeout=network.dns_timeout,
        retries=network.dns_retries,
        least_ttl=min(network.dns_min_ttl, network.dns_max_ttl),
        prefer_ipv6=network.prefer_ipv6,
        roaming=network.dns_roaming,
    )
