"""Names to addresses: bounded in time, remembered while the name servers are away, one connection for many addresses."""

import socket
import threading

import pytest

from cvfs.errors import Trouble, Unreachable
from cvfs.store.dial import dial
from cvfs.store.http import HttpStore
from cvfs.store.names import NamePolicy, Names, literal_address, system_look_up
from cvfs.store.patience import Timeouts
from cvfs.store.proxies import parse_chain
from cvfs.store.proxy_names import ProxyNames
from cvfs.store.routes import Routes


class Resolver:
    """Name servers that a test tells what to answer, and which may be held."""

    def __init__(self, **names):
        self.names = names
        self.asked = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.answered = threading.Semaphore(0)

    def __call__(self, host):
        self.asked.append(host)
        self.go_on.wait(20)
        try:
            found = self.names.get(host)
            if isinstance(found, Exception):
                raise found
            if found is None:
                raise socket.gaierror(-2, "Name or service not known")
            return found
        finally:
            self.answered.release()


@pytest.fixture
def resolver():
    held = Resolver(p=["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.1"])
    yield held
    held.go_on.set()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("fe80::1%lo", "fe80::1%lo"),
        ("a.example.org", None),
        ("1.2.3", None),
    ],
)
def test_literals(host, address, resolver):
    assert literal_address(host) == address
    if address:
        assert Names(look_up=resolver).addresses(host) == (address,)
        assert resolver.asked == []


@pytest.mark.parametrize(
    ("six", "expected"),
    [(False, ("192.0.2.1", "192.0.2.2", "2001:db8::1")), (True, ("2001:db8::1", "192.0.2.1", "192.0.2.2"))],
)
def test_the_preferred_family_comes_first(resolver, six, expected):
    names = Names(NamePolicy(prefer_ipv6=six), look_up=resolver)
    assert names.addresses("p") == expected
    assert names.known("p") == tuple(a for a in expected if (":" in a) == six)


def test_what_is_known_is_not_asked_for_again(resolver, clock):
    names = Names(clock=clock, look_up=resolver)
    for _ in range(5):
        names.addresses("p")
        clock.now += 11
    assert resolver.asked == ["p"]


def test_what_is_old_serves_while_it_is_asked_for_anew(resolver, clock):
    names = Names(clock=clock, look_up=resolver)
    old = names.addresses("p")
    resolver.go_on.clear()
    resolver.names["p"] = ["192.0.2.9"]
    clock.now += 61
    assert names.addresses("p") == old
    resolver.go_on.set()
    resolver.answered.acquire(timeout=20)
    assert resolver.answered.acquire(timeout=20)
    _settle(lambda: names.addresses("p") == ("192.0.2.9",))


def test_the_last_addresses_serve_while_the_name_servers_are_away(resolver, clock):
    names = Names(NamePolicy(retries=0), clock=clock, look_up=resolver)
    old = names.addresses("p")
    resolver.names["p"] = OSError("away")
    for _ in range(3):
        clock.now += 61
        assert names.addresses("p") == old
        assert resolver.answered.acquire(timeout=20)


def _settle(test):
    """The thread that answers has a few instructions left."""
    pause = threading.Event()
    for _ in range(400):
        if test():
            return
        pause.wait(0.05)
    pytest.fail("never came true")


def test_a_name_that_is_none_is_asked_for_again(resolver):
    names = Names(NamePolicy(retries=2), look_up=resolver)
    with pytest.raises(Unreachable, match=r"nowhere: cannot be resolved: .*not known") as raised:
        names.addresses("nowhere")
    assert raised.value.trouble is Trouble.NOT_CONNECTED
    assert resolver.asked == ["nowhere"] * 3


def test_name_servers_that_hang_hold_nobody(resolver):
    resolver.go_on.clear()
    names = Names(NamePolicy(timeout=0.05, retries=0), look_up=resolver)
    for _ in range(3):
        with pytest.raises(Unreachable, match="the name servers do not answer"):
            names.addresses("p")
    with pytest.raises(Unreachable):
        names.addresses("p", within=0.01)
    _settle(lambda: resolver.asked)
    assert resolver.asked == ["p"]
    assert names.known("p") == ()


def test_there_are_only_so_many_questions_at_a_time(resolver):
    resolver.go_on.clear()
    names = Names(look_up=resolver)
    for number in range(16):
        assert names.known(f"host{number}") == ()
    with pytest.raises(Unreachable, match="too many"):
        names.addresses("one-more")


def test_a_lost_question_is_asked_again(resolver, clock):
    resolver.go_on.clear()
    names = Names(clock=clock, look_up=resolver)
    names.known("p")
    clock.now += 61
    names.known("p")
    _settle(lambda: resolver.asked == ["p", "p"])
    resolver.go_on.set()
    assert names.addresses("p", within=20)


def test_forgetting(resolver):
    names = Names(look_up=resolver)
    names.addresses("p")
    names.forget()
    names.addresses("p")
    assert resolver.asked == ["p", "p"]


def test_a_roaming_machine_asks_its_new_name_servers(resolver, monkeypatch, tmp_path):
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("one")
    monkeypatch.setattr("cvfs.store.names._RESOLVER_CONFIGURATION", str(configuration))
    names = Names(NamePolicy(roaming=True), look_up=resolver)
    names.addresses("p")
    names.addresses("p")
    assert resolver.asked == ["p"]
    import os

    os.utime(configuration, ns=(1, 1))
    names.addresses("p")
    assert resolver.asked == ["p", "p"]


def test_the_systems_resolver():
    assert set(system_look_up("localhost")) <= {"127.0.0.1", "::1"}


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_any_address_that_answers_will_do(listener):
    names = Names(look_up=lambda _: ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    with dial(names, "server", listener, 20) as connected:
        assert connected.getpeername()[0] == "127.0.0.1"
        assert 0 < connected.gettimeout() <= 20


def test_no_address_that_answers(listener):
    names = Names(look_up=lambda _: ["127.0.0.2", "127.0.0.3"])
    with pytest.raises(Unreachable, match=r"127.0.0.3 port .*refused") as raised:
        dial(names, "server", listener, 20)
    assert raised.value.trouble is Trouble.NOT_CONNECTED


def test_ipv6():
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with listening, dial(Names(), "[::1]", listening.getsockname()[1], 20) as connected:
        assert connected.family == socket.AF_INET6


def test_addresses_that_never_answer_share_the_time():
    # A queue of one that is full: further connections are not answered.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        names = Names(look_up=lambda _: ["127.0.0.1"])
        with pytest.raises(Unreachable, match="timed out"):
            dial(names, "server", full.getsockname()[1], 0.3)


def test_a_server_is_asked_by_its_name_at_its_address(serve):
    server = serve(lambda request: request.answer("200 OK", b"x"))
    port = server.url.rpartition(":")[2]
    names = Names(look_up=lambda _: ["127.0.0.1"])
    store = HttpStore(f"http://far.example.org:{port}", None, Timeouts(20, 20), names=names)
    assert b"".join(store.fetch("a")) == b"x"
    assert server.requests[0].headers["host"] == f"far.example.org:{port}"


def test_proxies_by_name_become_as_many_as_there_are_addresses(resolver, clock):
    resolver.names["p"] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    routes = Routes(["http://s"], parse_chain("p:1|192.0.2.9:1"), clock=clock)
    names = Names(clock=clock, look_up=resolver)
    tend = ProxyNames(routes, names, 2, clock)
    tend()
    assert resolver.answered.acquire(timeout=20)
    _settle(lambda: names.known("p"))
    tend()
    clock.now += 2
    tend()
    members = [proxy.url for proxy in routes.proxy_groups()[0]]
    assert members == ["http://192.0.2.1:1", "http://192.0.2.2:1", "http://192.0.2.9:1"]
    resolver.names["p"] = ["192.0.2.4"]
    clock.now += 61
    tend()
    assert resolver.answered.acquire(timeout=20)
    _settle(lambda: names.known("p") == ("192.0.2.4",))
    clock.now += 31
    tend()
    assert [proxy.url for proxy in routes.proxy_groups()[0]] == ["http://p:1", "http://192.0.2.9:1"]
