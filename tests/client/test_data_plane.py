"""Which stores a client puts together, and in which order they are asked."""

import os

import pytest

from cvfs.client.data_plane import connect
from cvfs.compression import ENCODERS
from cvfs.errors import MissingObject, UsageError
from cvfs.hashes import Algorithm, ContentHash
from cvfs.store.base import Wanted, fetch_document
from cvfs.store.counted import Counted
from cvfs.store.memory import MemoryStore


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
