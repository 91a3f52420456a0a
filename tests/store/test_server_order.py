"""Which server is near: answers of the geo API are orders or refused, silent servers hold nobody."""

import threading

import pytest

from cvfs.errors import FormatError, StoreError
from cvfs.store.http import HttpStore
from cvfs.store.memory import MemoryStore
from cvfs.store.patience import Timeouts
from cvfs.store.server_order import parse_order, probe_geo, probe_round_trips

SERVERS = ["http://s1.example.org:8000/cvmfs/x", "http://s2.example.org/cvmfs/x", "http://s3.example.org/cvmfs/x"]


@pytest.mark.parametrize(("answer", "order"), [(b"2,1,3\n", [1, 0, 2]), (b"3, 2 ,1", [2, 1, 0])])
def test_orders(answer, order):
    assert parse_order(answer, 3) == order


@pytest.mark.parametrize(
    "answer", [b"", b"1,2", b"1,2,3,4", b"1,1,2", b"0,1,2", b"a,b,c", b"\xff", b"1;2;3", b"<html>", b"1,2,-3"]
)
def test_answers_that_are_no_order(answer):
    with pytest.raises(FormatError, match="the geo API answers"):
        parse_order(answer, 3)


def test_the_geo_api_is_asked_about_hosts(serve):
    server = serve(lambda request: request.answer("200 OK", b"3,1,2\n"))
    store = HttpStore(server.url, None, Timeouts(20, 20))
    assert probe_geo(store, SERVERS, "squid.example.org") == [SERVERS[2], SERVERS[0], SERVERS[1]]
    hosts = "s1.example.org,s2.example.org,s3.example.org"
    assert server.requests[0].path == f"/api/v1.0/geo/squid.example.org/{hosts}"
    probe_geo(store, SERVERS)
    caller = server.requests[1].path.split("/")[4]
    assert len(caller) == 36


def test_an_endless_answer_is_refused(serve):
    server = serve(lambda request: request.answer("200 OK", b"1," * 5000))
    with pytest.raises(StoreError, match="longer than"):
        probe_geo(HttpStore(server.url, None, Timeouts(20, 20)), SERVERS)


def test_round_trips_of_those_that_answer():
    silent = threading.Event()

    class Silent:
        def fetch(self, path, *, fresh=0, span=None):
            silent.wait(20)
            yield b""

    good, bad = MemoryStore({".cvmfspublished": b"x"}), MemoryStore({})
    found = probe_round_trips({"good": good, "silent": Silent(), "bad": bad}, within=0.3)
    silent.set()
    assert set(found) == {"good"}
    assert 0 <= found["good"] < 20
