"""Commands about the ways to the servers: which proxies and hosts there are, which are in use, how long they may take."""

import re
from collections.abc import Callable
from typing import NamedTuple

from cvfs.client.control import Answer
from cvfs.client.talk.commands import DONE, Command
from cvfs.errors import NotFound, UsageError
from cvfs.store.proxies import parse_groups, shown
from cvfs.store.routes import Routes

Probe = Callable[[], None]
"""Orders the servers anew, within a bounded time. Raises CvfsError."""

_NO_NAMESERVER = "the system's resolver is used, CVMFS_DNS_SERVER is not supported"


class NetworkCommands:
    """What is asked of `routes`; `external` are those of external data, where it has its own servers."""

    def __init__(self, routes: Routes, external: Routes | None, probes: "Probes") -> None:
        self._routes = routes
        self._external = external
        self._probes = probes

    def commands(self) -> list[Command]:
        """The commands by their words."""
        return [
            *_host_commands("", lambda: self._routes),
            *_host_commands("external ", self._outside),
            Command("host probe", _doing(self._probes.round_trip), help="orders the hosts by round trip time"),
            Command("host probe geo", _doing(self._probes.geo), help="orders the hosts by the Geo-API"),
            Command(
                "proxy rebalance", _doing(self._routes.rebalance), help="chooses among the proxies of the group anew"
            ),
            Command("proxy switch", _doing(self._routes.switch_proxy), help="switches to another proxy of the group"),
            Command("proxy group switch", _doing(self._routes.switch_proxy_group), help="switches to the next group"),
            Command("proxy fallback", self.fallback, "<proxy list>", "sets the fallback proxies"),
            Command("timeout info", self.timeouts, help="gets the network timeouts"),
            Command("timeout set", self.set_timeouts, "<proxy> <direct>", "sets the network timeouts in seconds"),
            Command("nameserver get", lambda _: "DNS server not set.\n", help="get the DNS server"),
            Command("nameserver set", _no_nameserver, "<host>", "sets a DNS server (not supported)"),
        ]

    def fallback(self, text: str) -> Answer:
        """Other fallback proxies."""
        self._routes.set_fallback(text)
        return DONE

    def timeouts(self, _: str) -> Answer:
        """Seconds with and without a proxy."""
        now = self._routes.timeouts
        text = f"Timeout with proxy: {now.proxied:g}s\nTimeout without proxy: {now.direct:g}s\n"
        return Answer(text, data={"proxy": now.proxied, "direct": now.direct})

    def set_timeouts(self, text: str) -> Answer:
        """Other time-outs."""
        try:
            proxied, direct = map(float, text.split())
        except ValueError:
            raise UsageError(f"{text!r}: two numbers of seconds are needed") from None
        self._routes.set_timeouts(proxied, direct)
        return DONE

    def _outside(self) -> Routes:
        if self._external is None:
            raise NotFound("external data comes from the servers of the repository, or there are none for it")
        return self._external


class Probes(NamedTuple):
    """Ways of measuring which server is the nearest."""

    round_trip: Probe
    geo: Probe


def _doing(change: Callable[[], None]) -> Callable[[str], Answer]:
    def act(_: str) -> Answer:
        change()
        return DONE

    return act


def _host_commands(prefix: str, routes: Callable[[], Routes]) -> list[Command]:
    """What there is both for a repository's own servers and for those of external data."""

    def switch(_: str) -> Answer:
        routes().switch_server()
        return DONE

    def set_hosts(text: str) -> Answer:
        routes().set_servers([url for url in re.split(r"[;,\s]+", text) if url])
        return DONE

    def set_proxies(text: str) -> Answer:
        routes().set_proxies(text)
        return DONE

    return [
        Command(f"{prefix}host info", lambda _: host_info(routes()), help="gets the hosts and their round trip times"),
        Command(f"{prefix}host switch", switch, help="switches to the next host"),
        Command(f"{prefix}host set", set_hosts, "<host list>", "sets other hosts"),
        Command(f"{prefix}proxy info", lambda _: proxy_info(routes()), help="gets the load-balance proxy groups"),
        Command(f"{prefix}proxy set", set_proxies, "<proxy list>", "sets other proxies"),
    ]


def host_info(routes: Routes) -> Answer:
    """The hosts in order, and the one in use."""
    servers = routes.servers()
    active = next((place for place, server in enumerate(servers) if server.active), 0)
    lines = [f"  [{place}] {server.url} ({_round_trip(server.rtt)})" for place, server in enumerate(servers)]
    lines.append(f"Active host {active}: {routes.server}")
    data = [server._asdict() for server in servers]
    return Answer("\n".join([*lines, ""]), data=data)


def _round_trip(seconds: float | None) -> str:
    if seconds is None:
        return "unprobed"
    return "host down" if seconds == float("inf") else f"{seconds * 1000:.0f} ms"


def proxy_info(routes: Routes) -> Answer:
    """The groups in order, and the proxy in use."""
    groups = routes.proxy_groups()
    lines = ["Load-balance groups:"]
    for place, group in enumerate(groups):
        named = (f"{shown(proxy.url)}{' (down)' if proxy.down else ''}" for proxy in group)
        lines.append(f"[{place}] {', '.join(named)}")
    lines.append(f"Active proxy: [{routes.group}] {shown(routes.proxy)}")
    if routes.fallback():
        lines.append(f"First fallback group: [{len(groups) - len(parse_groups(routes.fallback()))}]")
    data = {
        "groups": [[proxy._replace(url=shown(proxy.url))._asdict() for proxy in group] for group in groups],
        "group": routes.group,
        "proxy": shown(routes.proxy),
    }
    return Answer("\n".join([*lines, ""]), data=data)


def _no_nameserver(_: str) -> Answer:
    raise UsageError(_NO_NAMESERVER)
