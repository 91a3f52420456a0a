"""What is remembered of servers and proxies: who is in use, who is down, when the preferred ones come again."""

import logging
from random import Random

import pytest

from cvfs.errors import UsageError
from cvfs.store.outage import Outage
from cvfs.store.patience import Patience, Timeouts
from cvfs.store.proxies import parse_chain
from cvfs.store.routes import Route, RoutePolicy, Routes

SERVERS = ["http://s", "http://t", "http://u"]


@pytest.fixture
def routes(clock):
    """Makes routes over three servers; the random choice is that of the seed."""

    def make(proxies="", fallback="", servers=SERVERS, seed=1, **policy):
        chain = parse_chain(proxies, fallback)
        return Routes(servers, chain, RoutePolicy(**policy), clock=clock, wall=clock, random=Random(seed))

    return make


def _names(groups):
    return [[proxy.url.removeprefix("http://").removesuffix(":1") for proxy in group] for group in groups]


def _down(routes):
    return {proxy.url[7:8] for group in routes.proxy_groups() for proxy in group if proxy.down}


def _fail_proxy(routes, reason="refused"):
    routes.proxy_failed(routes.choose(), reason)


def test_a_member_is_chosen_at_random_and_kept(routes):
    chosen = {routes("a:1|b:1|c:1", seed=seed).proxy for seed in range(30)}
    assert chosen == {"http://a:1", "http://b:1", "http://c:1"}
    one = routes("a:1|b:1|c:1")
    assert {one.choose() for _ in range(30)} == {Route("http://s", one.proxy, one.choose().generation)}


def test_groups_are_used_up_one_after_the_other_then_the_fallback(routes):
    one = routes("a:1|b:1;c:1", "d:1")
    used = []
    for _ in range(4):
        used.append((one.group, one.proxy[7]))
        _fail_proxy(one)
    assert [group for group, _ in used] == [0, 0, 1, 2]
    assert {name for _, name in used} == set("abcd")
    # All have failed: from the start.
    assert (one.group, _down(one)) == (0, set())
    assert one.failovers.proxy == 4


def test_never_direct_unless_configured(routes):
    one = routes("a:1;b:1")
    for _ in range(9):
        assert one.choose().proxy != "DIRECT"
        _fail_proxy(one)
    other = routes("a:1;DIRECT")
    _fail_proxy(other)
    assert other.choose().proxy == "DIRECT"


def test_direct_itself_cannot_fail(routes):
    one = routes()
    _fail_proxy(one)
    assert (one.proxy, one.failovers.proxy) == ("DIRECT", 0)


def test_a_failure_that_is_no_news_is_ignored(routes):
    one = routes("a:1|b:1|c:1")
    route = one.choose()
    for _ in range(5):
        one.proxy_failed(route, "refused")
    assert (len(_down(one)), one.failovers.proxy) == (1, 1)
    one.proxy_failed(Route("http://s", "http://unknown:1"), "x")
    one.server_failed(Route("http://unknown", "DIRECT"), "x")
    assert one.failovers == (1, 0, 0)


def test_what_began_before_everything_was_tried_anew_blames_nobody(routes):
    one = routes("a:1|b:1")
    early = [Route("http://s", f"http://{name}:1", one.choose().generation) for name in "ab"]
    for route in early:
        one.proxy_failed(route, "refused")
    assert _down(one) == set()
    for route in early:
        one.proxy_failed(route, "refused")
    assert _down(one) == set()
    _fail_proxy(one)
    assert len(_down(one)) == 1


def test_servers_go_round(routes):
    one = routes()
    seen = []
    for _ in range(6):
        seen.append(one.server[-1])
        one.server_failed(one.choose(), "500")
    assert seen == ["s", "t", "u", "s", "t", "u"]


@pytest.mark.parametrize(("after", "expected"), [(299, "b"), (301, "a")])
def test_the_preferred_proxies_come_again(routes, clock, after, expected):
    one = routes("a:1;b:1")
    _fail_proxy(one)
    clock.now += after
    assert one.choose().proxy == f"http://{expected}:1"


@pytest.mark.parametrize(("after", "expected"), [(1799, "t"), (1801, "s")])
def test_the_preferred_server_comes_again(routes, clock, after, expected):
    one = routes()
    one.server_failed(one.choose(), "500")
    clock.now += after
    assert one.choose().server == f"http://{expected}"


def test_a_proxy_that_works_is_kept_when_its_group_is_whole_again(routes, clock):
    one = routes("a:1|b:1")
    _fail_proxy(one)
    kept = one.proxy
    clock.now += 301
    assert (one.choose().proxy, _down(one)) == (kept, set())


def test_without_a_reset_time_nothing_comes_again(routes, clock):
    one = routes("a:1;b:1", proxy_reset_after=0, host_reset_after=0)
    _fail_proxy(one)
    one.server_failed(one.choose(), "500")
    clock.now += 1e9
    assert one.choose()[:2] == ("http://t", "http://b:1")


def test_who_answers_is_up(routes):
    one = routes("a:1|b:1")
    route = one.choose()
    one.proxy_failed(route, "refused")
    one.server_failed(route, "500")
    assert one.is_down(route)
    one.worked(route)
    assert not one.is_down(route)


def test_ways_in_order(routes):
    one = routes("a:1|b:1;DIRECT")
    active = one.proxy[7]
    other = "ba"["ab".index(active)]
    tried = []
    while route := one.choose(accept=lambda way: way[:2] not in tried):
        tried.append(route[:2])
    short = [f"{server[-1]} {proxy.removeprefix('http://').partition(':')[0]}" for server, proxy in tried]
    first_two = [f"{server} {proxy}" for proxy in (active, other, "DIRECT") for server in "st"]
    assert short == [*first_two, f"u {active}", f"u {other}", "u DIRECT"]


def test_another_way_shares_nothing_with_the_one_that_failed(routes):
    one = routes("a:1|b:1")
    bad = one.choose()
    other = one.choose(failed=[bad])
    assert other.server != bad.server
    assert other.proxy != bad.proxy


def test_one_server_only(routes):
    one = routes("a:1")
    assert one.choose(server="http://u").server == "http://u"
    assert one.choose(server="http://u", accept=lambda _: False) is None


def test_every_object_has_its_proxy(routes):
    one = routes("a:1|b:1|c:1", shard=True)
    paths = [f"data/{number:02x}" for number in range(60)]
    first = {path: one.choose(path).proxy for path in paths}
    assert set(first.values()) == {"http://a:1", "http://b:1", "http://c:1"}
    one.proxy_failed(Route("http://s", "http://b:1", (99, 99)), "refused")
    for path in paths:
        assert one.choose(path).proxy == first[path] or first[path] == "http://b:1"
        assert one.choose(path).proxy != "http://b:1"


def test_each_change_is_one_line_with_its_reason(routes, caplog):
    one = routes("http://me:secret@a:1;b:1")
    with caplog.at_level(logging.INFO):
        _fail_proxy(one, "connection refused")
        one.server_failed(one.choose(), "status 500")
        one.all_failed("nothing answers")
        one.answered(one.choose())
    assert [record.getMessage() for record in caplog.records] == [
        "switching proxy from http://a:1 to http://b:1: connection refused",
        "switching host from http://s to http://t: status 500",
        "offline, only what is cached can be read: nothing answers",
        "online again: http://t via http://b:1 answers",
    ]


@pytest.mark.parametrize(("ever", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_being_offline_from_the_beginning_is_the_errors_news(routes, caplog, ever, level):
    one = routes("a:1")
    if ever:
        one.answered(one.choose())
    with caplog.at_level(logging.INFO):
        one.all_failed("nothing answers")
    assert [record.levelno for record in caplog.records] == [level]


def test_on_demand(routes):
    one = routes("a:1|b:1;c:1")
    before = one.proxy
    one.switch_proxy()
    assert (one.proxy != before, one.group) == (True, 0)
    one.switch_proxy_group()
    assert (one.proxy, one.group) == ("http://c:1", 1)
    one.switch_proxy_group()
    assert one.group == 0
    one.switch_proxy_group()
    one.rebalance()
    assert one.group == 0
    one.switch_server()
    assert (one.server, [state.active for state in one.servers()]) == ("http://t", [False, True, False])
    one.set_servers(["http://x/", "http://y"])
    assert (one.server, len(one.servers())) == ("http://x", 2)
    one.set_timeouts(1, 2)
    assert (one.timeouts.proxied, one.timeouts.direct) == (1, 2)
    one.retried()
    assert one.failovers.retries == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e30])
def test_every_wait_has_a_deadline(routes, seconds):
    one = routes()
    for both in ((seconds, 1), (1, seconds)):
        with pytest.raises(UsageError, match="must be positive"):
            one.set_timeouts(*both)
    assert one.timeouts == one.policy.timeouts


def test_a_proxy_on_demand_is_none_when_there_is_no_other(routes):
    one = routes("a:1")
    one.switch_proxy()
    assert one.proxy == "http://a:1"


def test_other_proxies_on_demand(routes):
    one = routes("a:1", "f:1")
    one.set_proxies("b:1|c:1;DIRECT")
    assert _names(one.proxy_groups()) == [["b", "c"], ["f"]]
    assert one.fallback() == "http://f:1"
    one.set_fallback("")
    assert _names(one.proxy_groups()) == [["b", "c"], ["DIRECT"]]
    one.set_fallback("g:1")
    assert _names(one.proxy_groups()) == [["b", "c"], ["g"]]
    one.set_proxies("DIRECT")
    assert _names(one.proxy_groups()) == [["g"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda routes: routes.set_proxies("ftp://x"),
        lambda routes: routes.set_proxies("auto"),
        lambda routes: routes.set_fallback("http://x/y"),
        lambda routes: routes.set_servers([]),
        lambda routes: routes.set_timeouts(0, 1),
        lambda routes: Routes([]),
    ],
)
def test_nonsense_on_demand_is_refused_and_changes_nothing(routes, change):
    one = routes("a:1")
    before = (one.servers(), one.proxy_groups(), one.fallback(), one.timeouts)
    with pytest.raises(UsageError):
        change(one)
    assert (one.servers(), one.proxy_groups(), one.fallback(), one.timeouts) == before


def test_servers_are_ordered_by_their_round_trips(routes):
    one = routes()
    one.order_servers(lambda urls: {urls[2]: 0.01, urls[0]: 0.02})
    assert [(state.url, state.rtt) for state in one.servers()] == [
        ("http://u", 0.01),
        ("http://s", 0.02),
        ("http://t", None),
    ]
    one.set_order(["http://t", "http://s", "http://u"], "told", most=2)
    assert [state.url for state in one.servers()] == ["http://t", "http://s"]
    one.set_order(["http://x", "http://y"], "told")
    assert len(one.servers()) == 2
    assert one.server == "http://t"


def test_a_name_with_several_addresses_is_several_proxies(routes):
    one = routes("p:1|q:1")
    one.set_addresses("http://p:1", ("192.0.2.1", "192.0.2.2"))
    assert _names(one.proxy_groups()) == [["192.0.2.1", "192.0.2.2", "q"]]
    assert one.proxy in {"http://192.0.2.1:1", "http://192.0.2.2:1", "http://q:1"}
    one.set_addresses("http://p:1", ("192.0.2.3",))
    assert _names(one.proxy_groups()) == [["p", "q"]]
    assert one.proxy in {"http://p:1", "http://q:1"}
    assert one.proxy_names() == ("http://p:1", "http://q:1")


def test_an_outage(clock):
    outage = Outage(2, 10)
    assert outage.admit(0)
    assert outage.begin(0, 100.0, "x")
    assert not any(outage.begin(at, 101.0, "y") for at in (0, 0.5, 1.9))
    assert (outage.since, outage.reason) == (100.0, "x")
    assert [outage.admit(at) for at in (0, 1.9, 2, 2, 99)] == [False, False, True, False, False]
    assert not outage.begin(2.5, 102.0, "z")
    outage.settle()
    assert (outage.since, outage.reason) == (100.0, "z")
    assert [outage.admit(at) for at in (6.4, 6.5)] == [False, True]
    assert outage.end()
    assert not outage.end()
    assert (outage.since, outage.admit(5)) == (None, True)


def test_patience_is_shared_by_four_attempts():
    patience = Patience(5, now=0)
    now, shares = 0.0, []
    while not patience.exhausted(now):
        shares.append(patience.share(now, last=False))
        now += shares[-1]
    assert shares == pytest.approx([4, 2, 2, 2])
    assert now == pytest.approx(10)


def test_the_last_attempt_has_all_that_is_left():
    patience = Patience(5, now=0)
    assert patience.share(1, last=True) == 9
    assert patience.pause(100, now=6) == 2
    assert patience.pause(1, now=6) == 1
    patience.flowed(now=30)
    assert not patience.exhausted(34)
    assert patience.exhausted(35)


def test_usual_timeouts():
    assert Timeouts() == Timeouts(proxied=5, direct=10, low_speed=1024)
