"""The network's commands: words and columns of the original, over real routes that contact nobody."""

from random import Random

import pytest

from cvfs.client.talk.commands import Commands
from cvfs.client.talk.network import NetworkCommands, Probes
from cvfs.errors import NotFound, UsageError
from cvfs.store.proxies import parse_chain
from cvfs.store.routes import Routes

HOSTS = ("http://one/cvmfs/sw", "http://two/cvmfs/sw")


@pytest.fixture
def routes():
    return Routes(HOSTS, parse_chain("http://a:3128|http://b:3128;DIRECT"), random=Random(1))


@pytest.fixture
def probed():
    return []


@pytest.fixture
def talk(routes, probed):
    probes = Probes(lambda: probed.append("round trip"), lambda: probed.append("geo"))
    commands = Commands(NetworkCommands(routes, None, probes).commands())
    return commands.respond


def test_hosts(talk, routes):
    assert talk("host info").text == (
        "  [0] http://one/cvmfs/sw (unprobed)\n"
        "  [1] http://two/cvmfs/sw (unprobed)\n"
        "Active host 0: http://one/cvmfs/sw\n"
    )
    assert talk("host switch").text == "OK\n"
    assert routes.server == HOSTS[1]
    assert talk("host info").text.endswith("Active host 1: http://two/cvmfs/sw\n")
    assert talk("host info").data[1] == {"url": HOSTS[1], "active": True, "rtt": None}
    assert talk("host set http://x/sw;http://y/sw,http://z/sw").text == "OK\n"
    assert [server.url for server in routes.servers()] == ["http://x/sw", "http://y/sw", "http://z/sw"]
    assert talk("host set").text == "Usage: host set <host list>\n"


@pytest.mark.parametrize(("rtt", "shown"), [(0.0123, "12 ms"), (1.0, "1000 ms"), (float("inf"), "host down")])
def test_round_trips(talk, routes, rtt, shown):
    routes.order_servers(lambda _: dict.fromkeys(HOSTS, rtt))
    assert f"  [0] http://one/cvmfs/sw ({shown})\n" in talk("host info").text


def test_probes(talk, probed):
    assert talk("host probe").text == "OK\n"
    assert talk("host probe geo").text == "OK\n"
    assert probed == ["round trip", "geo"]


def test_proxies(talk, routes):
    text = talk("proxy info").text
    assert text.startswith(
        "Load-balance groups:\n[0] http://a:3128, http://b:3128\n[1] DIRECT\nActive proxy: [0] http://"
    )
    assert talk("proxy switch").text == "OK\n"
    assert talk("proxy rebalance").text == "OK\n"
    assert talk("proxy group switch").text == "OK\n"
    assert talk("proxy info").text.endswith("Active proxy: [1] DIRECT\n")
    assert talk("proxy set http://me:secret@c:1").text == "OK\n"
    assert "secret" not in talk("proxy info").text + str(talk("proxy info").data)
    assert routes.proxy == "http://me:secret@c:1"
    assert talk("proxy fallback http://f:1;http://g:1").text == "OK\n"
    assert "First fallback group: [1]\n" in talk("proxy info").text
    assert talk("proxy info").data["groups"][2][0]["url"] == "http://g:1"


def test_a_proxy_that_is_down_is_marked(talk, routes):
    route = routes.choose()
    routes.proxy_failed(route, "refused")
    assert f"{route.proxy} (down)" in talk("proxy info").text


def test_timeouts(talk, routes):
    assert talk("timeout info").text == "Timeout with proxy: 5s\nTimeout without proxy: 10s\n"
    assert talk("timeout set 3 4.5").text == "OK\n"
    assert (routes.timeouts.proxied, routes.timeouts.direct) == (3, 4.5)
    assert talk("timeout info").data == {"proxy": 3, "direct": 4.5}
    assert talk("timeout set").text == "Usage: timeout set <proxy> <direct>\n"


@pytest.mark.parametrize(
    "line", ["timeout set 3", "timeout set a b", "timeout set 0 1", "proxy set nonsense://", "host set ;"]
)
def test_nonsense_changes_nothing(talk, routes, line):
    before = (routes.timeouts, routes.proxy_groups(), routes.servers())
    with pytest.raises(UsageError):
        talk(line)
    assert (routes.timeouts, routes.proxy_groups(), routes.servers()) == before


def test_name_servers_are_the_systems(talk):
    assert talk("nameserver get").text == "DNS server not set.\n"
    with pytest.raises(UsageError, match="not supported"):
        talk("nameserver set 1.2.3.4")


@pytest.mark.parametrize(
    "line", ["external host info", "external host switch", "external host set http://x", "external proxy info"]
)
def test_without_servers_for_external_data(talk, line):
    with pytest.raises(NotFound, match="external data"):
        talk(line)


def test_servers_of_external_data(routes):
    external = Routes(("http://out/sw",))
    commands = Commands(NetworkCommands(routes, external, Probes(lambda: None, lambda: None)).commands())
    assert "http://out/sw" in commands.respond("external host info").text
    assert commands.respond("external proxy set http://p:1").text == "OK\n"
    assert external.proxy == "http://p:1"
    assert routes.proxy != "http://p:1"
