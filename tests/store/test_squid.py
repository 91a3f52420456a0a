"""A real Squid, with the configuration of server/deploy, between a client and its servers."""

import http.client
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

from cvfs.client.settings.network import NetworkSettings
from cvfs.client.upstream import own_upstream
from cvfs.errors import Unreachable
from cvfs.store.http import HttpStore, Timeouts

PLACE = "data/ab/" + "c" * 38
BODY = b"content" * 1000
KEPT = "Cache-Control: max-age=259200"
PATIENT = Timeouts(proxied=20, direct=20)


@pytest.fixture
def server(serve):
    """A server with one repository that gives the ages of FORMAT section 1.5."""

    def answer(request):
        if request.path != f"/cvmfs/x.example.org/{PLACE}":
            return request.answer("404 Not Found", b"none")
        if "range" in request.headers:
            return request.serve({request.path: BODY})
        return request.answer("200 OK", BODY, KEPT, f"Date: {formatdate(usegmt=True)}")

    served = serve(answer)
    served.url += "/cvmfs/x.example.org"
    return served


def _read(store, **how):
    return b"".join(store.fetch(PLACE, **how))


def test_an_object_is_asked_for_once(server, squid):
    proxy = squid()
    store = HttpStore(server.url, proxy.url, PATIENT)
    assert [_read(store) for _ in range(3)] == [BODY] * 3
    assert len(server.requests) == 1
    assert not store.has("data/ab/absent")
    assert _read(store, span=(7, 3)) == b"con"


def test_a_fresh_copy_comes_from_the_server(server, squid):
    store = HttpStore(server.url, squid().url, PATIENT)
    assert _read(store) == _read(store, fresh=True) == BODY
    assert len(server.requests) == 2


def test_many_askers_are_one_request(server, squid):
    proxy = squid()
    with ThreadPoolExecutor(16) as pool:
        stores = [HttpStore(server.url, proxy.url, PATIENT) for _ in range(16)]
        assert list(pool.map(_read, stores)) == [BODY] * 16
    # Squid promises no more than to do its best.
    assert len(server.requests) <= 4


@pytest.mark.parametrize(("method", "path"), [("GET", "/private/x"), ("POST", "/cvmfs/x.example.org/data/ab/x")])
def test_nothing_else_of_the_web_is_reached(server, squid, method, path):
    proxy = squid()
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    connection.request(method, server.url.partition("/cvmfs/")[0] + path)
    assert connection.getresponse().status == 403
    connection.close()
    assert server.requests == []


def test_a_server_that_is_gone_is_told_by_the_proxy(squid, unused_url):
    with pytest.raises(Unreachable, match="503"):
        _read(HttpStore(f"{unused_url}/cvmfs/x.example.org", squid().url, PATIENT))


def test_a_proxy_that_is_gone_and_comes_again(server, squid):
    proxy = squid()
    store = HttpStore(server.url, proxy.url, PATIENT)
    assert _read(store) == BODY
    proxy.stop()
    with pytest.raises(Unreachable):
        _read(store)
    proxy.start()
    assert _read(store) == BODY


def test_proxies_and_servers_go_down_and_come_again(serve, squid, unused_url):
    proxies = [squid(), squid()]
    objects = {f"/cvmfs/x.example.org/data/{number:02x}/x": b"%d" % number * 500 for number in range(40)}
    server = serve(lambda request: request.serve(objects))
    gone, here = f"{unused_url}/cvmfs/x.example.org", f"{server.url}/cvmfs/x.example.org"
    network = NetworkSettings(
        servers=(gone, here), http_proxy="|".join(proxy.url for proxy in proxies), timeout=20, backoff_init=1
    )
    upstream = own_upstream(network)
    places = itertools.cycle(objects)

    def read(count=1):
        for _ in range(count):
            place = next(places)
            assert b"".join(upstream.store.fetch(place.removeprefix("/cvmfs/x.example.org/"))) == objects[place]

    read(5)
    assert upstream.routes.server == here
    for proxy in proxies:
        proxy.stop()
        read(5)
        proxy.start()
        read(2)
    for proxy in proxies:
        proxy.stop()
    with pytest.raises(Unreachable):
        read()
    assert upstream.routes.offline_since is not None
    proxies[0].start()
    pause = threading.Event()
    for _ in range(200):
        try:
            read()
            break
        except Unreachable:
            pause.wait(0.1)
    assert upstream.routes.offline_since is None
    upstream.close()
