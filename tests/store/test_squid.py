"""A real Squid, with the configuration of server/deploy, between a client and its servers."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest

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
    assert len(server.requests) == 1


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
