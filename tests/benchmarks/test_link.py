"""The relay is late, slow and counts, and changes nothing; a server without one counts the same."""

import http.client
import os
import socket
import time

import pytest

from benchmarks.measuring.processes import has_gone
from benchmarks.model import Failed, Link
from benchmarks.network import serving
from benchmarks.network.link import connected, relayed
from benchmarks.network.serving import HOST

CONTENT = os.urandom(300_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What a server takes for a site."""
    root = tmp_path_factory.mktemp("site")
    (root / "srv/cvmfs/data").mkdir(parents=True)
    (root / "srv/cvmfs/data/object").write_bytes(CONTENT)
    (root / "srv/cvmfs/data/small").write_bytes(b"small")
    return root


@pytest.fixture(scope="module")
def server(site, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    with connected(site, Link(), work / "server", work) as end:
        yield end


@pytest.fixture
def relay(server, tmp_path):
    def start(link):
        return relayed(server.port, link, tmp_path)

    return start


def get(connection, name="small"):
    connection.request("GET", f"/cvmfs/data/{name}")
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


def open_connection(end):
    return http.client.HTTPConnection(HOST, end.port, timeout=60)


@pytest.mark.parametrize("link", [Link(), Link(rtt=2), Link(rtt=2, bandwidth=500)])
def test_every_byte_arrives_and_is_counted(relay, link):
    with relay(link) as end:
        first, second = open_connection(end), open_connection(end)
        assert get(first, "object") == CONTENT
        assert get(second) == b"small"
        assert get(first) == b"small"
        first.close()
        passed = end.passed()
        assert (passed.requests, passed.body_bytes) == (3, len(CONTENT) + 10)
        assert passed.targets == {"/cvmfs/data/object": 1, "/cvmfs/data/small": 2}
        second.close()


def test_the_server_alone_counts_the_same(site, tmp_path):
    with connected(site, Link(), tmp_path / "server", tmp_path) as end:
        connection = open_connection(end)
        assert end.passed().requests == 0
        get(connection, "object")
        assert end.passed().body_bytes == len(CONTENT)
        get(connection)
        connection.close()
        passed = end.passed()
        assert (passed.requests, passed.body_bytes) == (2, len(CONTENT) + 5)
        assert passed.targets == {"/cvmfs/data/object": 1, "/cvmfs/data/small": 1}


def test_each_exchange_takes_a_round_trip_and_a_connection_one_more(relay):
    with relay(Link(rtt=50)) as end:
        connection, started = open_connection(end), time.monotonic()
        get(connection)
        connected_and_asked = time.monotonic() - started
        for _ in range(4):
            get(connection)
        connection.close()
        assert connected_and_asked >= 0.1
        assert time.monotonic() - started >= 0.1 + 4 * 0.05


def test_all_connections_share_the_bandwidth(relay):
    with relay(Link(bandwidth=20)) as end:
        started = time.monotonic()
        connections = [open_connection(end) for _ in range(3)]
        for connection in connections:
            connection.request("GET", "/cvmfs/data/object")
        for connection in connections:
            assert connection.getresponse().read() == CONTENT
            connection.close()
        assert time.monotonic() - started >= 3 * len(CONTENT) * 8 / 20e6


def test_a_client_that_goes_away_disturbs_nobody(relay):
    with relay(Link(rtt=20)) as end:
        for _ in range(3):
            with socket.create_connection((HOST, end.port)) as leaving:
                leaving.sendall(b"GET /cvmfs/data/object HTTP/1.1\r\nHost: h\r\n\r\n")
        connection = open_connection(end)
        assert get(connection, "object") == CONTENT
        connection.close()


def test_a_server_that_is_gone_is_felt_as_a_connection_that_ends(tmp_path):
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with relayed(port, Link(), tmp_path) as end:
        connection = open_connection(end)
        with pytest.raises((OSError, http.client.HTTPException)):
            get(connection)
        connection.close()
        assert end.passed().requests == 0


def test_the_relay_ends_with_its_context(server, tmp_path):
    with relayed(server.port, Link(), tmp_path) as end:
        pid = end._process.pid
    assert has_gone(pid)
    with pytest.raises((Failed, ValueError)):
        end.passed()


def test_without_nginx_it_is_the_relay_that_counts(site, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "nginx", lambda: None)
    (site / "srv/cvmfs/own.example.org/data").mkdir(parents=True, exist_ok=True)
    (site / "srv/cvmfs/own.example.org/.cvmfspublished").write_bytes(b"manifest")
    with connected(site, Link(), tmp_path / "server", tmp_path) as end:
        connection = open_connection(end)
        connection.request("GET", "/cvmfs/own.example.org/.cvmfspublished")
        assert connection.getresponse().read() == b"manifest"
        connection.close()
        assert (end.passed().requests, end.passed().body_bytes) == (1, 8)
