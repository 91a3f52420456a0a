"""Which stores a client puts together, and in which order they are asked."""

import os
import threading

import pytest

from cvfs.client.data_plane import connect
from cvfs.compression import ENCODERS
from cvfs.errors import MissingObject, UsageError
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import Wanted, fetch_document
from cvfs.store.counted import Counted, CountedWays
from cvfs.store.memory import MemoryStore
from cvfs.store.patience import Timeouts
from cvfs.store.routes import Route, RoutePolicy


@pytest.fixture
def settings(tmp_path, make_settings):
    return lambda *servers, **changes: make_settings(
        servers=servers, **{"cache_dir": str(tmp_path / "cache")} | changes
    )


@pytest.fixture
def plane(settings):
    made = []

    def make(*servers: str, **changes):
        made.append(connect(settings(*servers, **changes)))
        return made[-1]

    yield make
    for plane in made:
        plane.close()


def put(directory, stored) -> str:
    wanted, data = stored
    place = directory / wanted.path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return f"file://{directory}"


def content_of(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


@pytest.fixture
def stored():
    def make(content: bytes):
        data = ENCODERS["zlib"].encode(content)
        return Wanted(ContentHash.of(data, Algorithm.SHA1), size=len(content)), data

    return make


@pytest.mark.parametrize("servers", [(), ("ftp://x/y",), ("file:/x",), ("x",), ("file:///a", "gopher://b")])
def test_what_is_no_server_is_refused_before_anything_is_made(tmp_path, settings, servers):
    with pytest.raises(UsageError):
        connect(settings(*servers))
    assert not (tmp_path / "cache").exists()


def test_what_was_fetched_once_is_kept(plane, stored, tmp_path):
    wanted, data = stored(b"hello")
    data_plane = plane(put(tmp_path / "a", (wanted, data)))
    assert data_plane.contents.open_present(wanted) is None
    assert content_of(data_plane.contents.open(wanted)) == b"hello"
    assert data_plane.traffic()[:2] == (1, len(data))
    assert content_of(data_plane.contents.open(wanted)) == b"hello"
    assert content_of(data_plane.contents.open_present(wanted)) == b"hello"
    assert data_plane.traffic()[:2] == (1, len(data))


def test_a_pipe_in_the_place_of_an_object_holds_up_nobody(plane, stored, tmp_path):
    """In a directory that several users share anybody may leave one."""
    wanted, data = stored(b"hello")
    data_plane = plane(put(tmp_path / "a", (wanted, data)))
    place = tmp_path / "cache" / wanted.content.name[:2] / wanted.content.name[2:]
    place.parent.mkdir(exist_ok=True)
    os.mkfifo(place)
    assert data_plane.contents.open_present(wanted) is None
    assert content_of(data_plane.contents.open(wanted)) == b"hello"
    assert place.read_bytes() == b"hello"


def test_without_a_cache_everything_is_fetched(plane, stored, tmp_path):
    wanted, data = stored(b"hello")
    data_plane = plane(put(tmp_path / "a", (wanted, data)), cache_dir=None)
    for _ in range(2):
        assert content_of(data_plane.contents.open(wanted)) == b"hello"
    assert data_plane.traffic()[:2] == (2, 2 * len(data))
    assert data_plane.cache_usage() == (0, 2**50)


def test_the_second_server_is_asked_for_what_the_first_lacks(plane, stored, tmp_path):
    (tmp_path / "a").mkdir()
    second = stored(b"second")
    data_plane = plane(f"file://{tmp_path / 'a'}", put(tmp_path / "b", second))
    assert content_of(data_plane.contents.open(second[0])) == b"second"
    assert len(data_plane.mirrors()) == 2


def test_external_contents_come_from_the_external_servers(plane, stored, tmp_path):
    own, foreign = stored(b"own"), stored(b"foreign")
    data_plane = plane(put(tmp_path / "a", own), external_servers=(put(tmp_path / "x", foreign),))
    assert content_of(data_plane.external.open(foreign[0])) == b"foreign"
    with pytest.raises(MissingObject):
        data_plane.external.open(stored(b"own2")[0])
    assert data_plane.traffic().bytes == len(foreign[1])


def test_without_external_servers_the_own_ones_serve(plane, stored, tmp_path):
    own = stored(b"own")
    data_plane = plane(put(tmp_path / "a", own))
    assert data_plane.external is data_plane.contents


def test_the_usage_of_the_cache(plane, stored, tmp_path):
    wanted = stored(b"x" * 1000)
    data_plane = plane(put(tmp_path / "a", wanted), quota=5000)
    os.close(data_plane.contents.open(wanted[0]))
    assert data_plane.cache_usage() == (1000, 5000)


def test_http_servers_are_asked_over_http(plane, web, stored, tmp_path):
    wanted = stored(b"over http")
    put(tmp_path / "a", wanted)
    server = web(tmp_path / "a")
    assert content_of(plane(server.url).contents.open(wanted[0])) == b"over http"
    assert server.requests == [f"/{wanted[0].path}"]


def test_counting():
    counted = Counted(MemoryStore({"a": b"12345"}))
    assert fetch_document(counted, "a") == b"12345"
    with pytest.raises(MissingObject):
        fetch_document(counted, "b")
    assert counted.has("a")
    assert counted.traffic[:2] == (2, 5)
    counted.close()


def test_ways_are_bounded_and_none_is_forgotten_in_the_sum(monkeypatch):
    monkeypatch.setattr("cvfs.store.counted._MOST_WAYS", 3)
    made = []

    def make(route):
        made.append(route.proxy)
        return MemoryStore({"a": b"12345"})

    ways = CountedWays(make)
    for number in range(5):
        for _ in range(2):
            assert fetch_document(ways(Route("http://s", f"http://p:{number}")), "a") == b"12345"
    assert made == [f"http://p:{number}" for number in range(5)]
    ways(Route("http://s", "http://p:4"))
    ways(Route("http://s", "http://p:0"))
    assert made[5:] == ["http://p:0"]
    assert ways.traffic()[:2] == (10, 50)
    ways.close()


def test_proxies_are_used_as_they_are_configured(plane, web, stored, tmp_path):
    wanted = stored(b"by proxy")
    put(tmp_path / "www" / "x", wanted)
    # To a web server that takes whole URLs for paths this is an object of its own; it stands for two proxies.
    proxies = [web(tmp_path / "www"), web(tmp_path / "www")]
    data_plane = plane("http://far.example.org/x", http_proxy="|".join(proxy.url for proxy in proxies))
    assert [[state.url for state in group] for group in data_plane.routes.proxy_groups()] == [[p.url for p in proxies]]
    assert data_plane.routes.server == "http://far.example.org/x"
    assert data_plane.external_routes is None
    with pytest.raises(MissingObject):
        data_plane.contents.open(stored(b"absent")[0])
    asked = [request for proxy in proxies for request in proxy.requests]
    assert len(asked) == 1
    assert asked[0].startswith("http://far.example.org/x/data/")


def test_external_contents_have_routes_of_their_own(plane):
    data_plane = plane(
        "http://a.example.org",
        external_servers=("http://b.example.org",),
        external_http_proxy="http://127.0.0.1:1",
        external_timeout=3,
        timeout=7,
    )
    assert (data_plane.routes.proxy, data_plane.routes.timeouts.proxied) == ("DIRECT", 7)
    assert (data_plane.external_routes.proxy, data_plane.external_routes.timeouts.proxied) == ("http://127.0.0.1:1", 3)


def test_policy_comes_from_the_settings(plane):
    policy = plane("http://a", max_retries=4, backoff_init=1, backoff_max=6, proxy_reset_after=7, proxy_shard=True)
    assert policy.routes.policy == RoutePolicy(Timeouts(5, 10, 1024), 7, 1800, 4, 1, 6, shard=True)


def test_only_so_many_servers_are_kept(plane):
    assert [s.url for s in plane("http://a", "http://b", "http://c", max_servers=2).routes.servers()] == [
        "http://a",
        "http://b",
    ]


def test_the_fallback_proxy(plane):
    routes = plane("http://a", http_proxy="http://p:1;DIRECT", fallback_proxy="http://f:1").routes
    assert [[state.url for state in group] for group in routes.proxy_groups()] == [["http://p:1"], ["http://f:1"]]


def _until(test) -> None:
    pause = threading.Event()
    for _ in range(400):
        if test():
            return
        pause.wait(0.05)
    pytest.fail("never came true")


def test_servers_are_put_in_order_by_the_geo_api_in_the_background(plane, web, tmp_path):
    (tmp_path / "a").mkdir()
    server = web(tmp_path / "a")

    def place_answer():
        place = tmp_path / "a" / server.requests[-1].lstrip("/")
        if "/geo/" in str(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"3,2,1\n")

    server.on_request = place_answer
    others = ["http://s2.example.org", "http://s3.example.org"]
    routes = plane(server.url, *others, use_geoapi=True, max_servers=2).routes
    _until(lambda: [state.url for state in routes.servers()] == others[::-1])


def test_servers_are_put_in_order_by_round_trips_in_the_background(plane, web, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.cvmfspublished").write_bytes(b"x")
    server = web(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    data_plane = plane(f"file://{tmp_path}/empty", server.url, sort_servers=True)
    _until(lambda: data_plane.routes.server == server.url)
    states = data_plane.routes.servers()
    assert states[0].rtt is not None
    assert states[1].rtt is None


def test_mirrors_are_the_servers_one_by_one(plane, stored, tmp_path):
    first, second = stored(b"first"), stored(b"second")
    urls = [put(tmp_path / "a", first), put(tmp_path / "b", second)]
    mirrors = plane(*urls).mirrors()
    assert [str(mirror) for mirror in mirrors] == urls
    assert fetch_document(mirrors[1], second[0].path) == second[1]
    with pytest.raises(MissingObject):
        fetch_document(mirrors[0], second[0].path)


def test_proxies_of_a_script(plane, web, tmp_path):
    (tmp_path / "a").mkdir()
    script = 'function FindProxyForURL(url, host) { return "PROXY p:3128; DIRECT"; }'
    (tmp_path / "a/wpad.dat").write_text(script)
    url = web(tmp_path / "a").url
    routes = plane("http://s", http_proxy="auto;http://q:1", pac_urls=(f"{url}/wpad.dat",), timeout_direct=60).routes
    assert [group[0].url for group in routes.proxy_groups()] == ["http://p:3128", "DIRECT", "http://q:1"]
