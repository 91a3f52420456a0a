"""A revision as a Python object, over file:// and over HTTP."""

import contextlib
import gc
import hashlib
import io
import os
import random
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cvfs.client.repository import Repository
from cvfs.errors import (
    CorruptObject,
    FormatError,
    IsADirectory,
    NotADirectory,
    NotALink,
    NotFound,
    TrustError,
    Unreachable,
    UsageError,
)
from cvfs.hashes import ContentHash, ObjectKind, as_path

FIXTURES = ("tiny.example.org", "tiny-shake128.example.org")


@pytest.fixture(params=["file", "http"])
def url(request, fixture_repository, web) -> str:
    repository = fixture_repository("tiny.example.org")
    base = f"file://{repository.root}" if request.param == "file" else web(repository.root).url
    return f"{base}/{repository.fqrn}"


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository("tiny.example.org")


def entries(repository, tag="s5") -> dict[bytes, dict]:
    return {entry["path"].encode("utf-8", "surrogateescape"): entry for entry in repository.manifests[tag]["entries"]}


def test_the_example_of_the_documentation(url, tiny):
    with Repository.open(url, tiny.public_key) as repository:
        names = {entry.name for entry in repository.listing("/")}
        assert names == {path[1:] for path in entries(tiny) if path.count(b"/") == 1}
        assert repository.number == 6
        expected = entries(tiny)[b"/chunked/random_1m"]["sha256"]
        assert hashlib.sha256(repository.read("/chunked/random_1m")).hexdigest() == expected


@pytest.mark.parametrize("tag", ["s1", "s4"])
def test_a_tag(url, tiny, tag):
    with Repository.open(url, tiny.public_key, tag=tag) as repository:
        assert {path for path, _ in repository.walk()} == set(entries(tiny, tag))


def test_a_root_hash_is_an_anchor_itself(url, tiny):
    with Repository.open(url, root_hash="7c1e472dbf8287e6fe620ab0a30f08a505896d76") as repository:
        assert {path for path, _ in repository.walk()} == set(entries(tiny))
        assert repository.revision.verified is None
    with pytest.raises(UsageError, match="public key"):
        Repository.open(url)


def test_a_failure_to_open_leaves_no_session_behind(tiny, tmp_path):
    with pytest.raises(NotFound):
        Repository.open(f"file://{tiny.storage}", tiny.public_key, tag="none", cache_dir=tmp_path / "cache")
    assert [name for name in os.listdir(tmp_path / "cache" / "txn") if name.endswith(".lock")] == []


def test_beside_a_cache_the_newest_seen_is_remembered(publication, tmp_path):
    published = publication()
    published.publish("s4")
    arguments = {"public_key": published.repository.public_key, "cache_dir": tmp_path / "cache"}
    url = f"file://{published.storage}"
    with Repository.open(url, fqrn=published.fqrn, **arguments) as repository:
        newest = repository.number
    manifest = published.storage / ".cvmfspublished"
    manifest.rename(tmp_path / "away")
    with Repository.open(url, fqrn=published.fqrn, **arguments) as repository:
        assert (repository.number, repository.revision.offline) == (newest, True)
    manifest.write_bytes((published.repository.storage / ".cvmfspublished").read_bytes())
    # A server that lags, or somebody who would like to serve an old revision for ever: it is not taken.
    with Repository.open(url, fqrn=published.fqrn, **arguments) as repository:
        assert (repository.number, repository.revision.offline) == (newest, False)
        assert re.search(r"rollback.*cache\.trust", repository.revision.trouble)
    published.publish("s3", revision=newest)
    with pytest.raises(TrustError, match=r"fork.*trust reset.*cache\.trust"):
        Repository.open(url, fqrn=published.fqrn, **arguments)


def test_the_second_opening_fetches_the_documents_only(tiny, tmp_path, web):
    server = web(tiny.root)
    for _ in range(2):
        server.requests.clear()
        with Repository.open(f"{server.url}/{tiny.fqrn}", tiny.public_key, cache_dir=tmp_path / "c") as repository:
            repository.read("/chunked/random_500k")
    assert sorted(path.rsplit("/", 1)[1][:5] for path in server.requests if "/data/" not in path) == [".cvmf", ".cvmf"]
    assert [path for path in server.requests if "/data/" in path] == []


# --- looking up -------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(opened, tiny):
    return opened(tiny)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", b""),
        ("", b""),
        ("a", b"/a"),
        ("//a///b/", b"/a/b"),
        ("/./a/.", b"/a"),
        (b"/\xff", b"/\xff"),
        ("/\udcff", b"/\xff"),
        ("/a/../b", b"/a/../b"),
        ("/é", "/é".encode()),
    ],
)
def test_paths(path, expected):
    assert as_path(path) == expected


@pytest.mark.parametrize("path", ["/none", "/chunked/../chunked", "/chunked/random_1m/x", "/\0", "x" * 5000])
def test_what_is_not_there(repository, path):
    assert not repository.exists(path)
    for ask in (repository.lookup, repository.read, repository.listing, repository.readlink, repository.xattrs):
        with pytest.raises(NotFound):
            ask(path)


def test_the_wrong_kind_of_entry(repository):
    with pytest.raises(IsADirectory, match="/chunked: is a directory"):
        repository.read("/chunked")
    with pytest.raises(NotADirectory, match="/chunked/random_1m: not a directory"):
        repository.listing("/chunked/random_1m")
    with pytest.raises(NotALink, match="/chunked: not a symbolic link"):
        repository.readlink("/chunked")
    with pytest.raises(NotFound, match="/specialfiles/fifo: not a regular file"):
        repository.read("/specialfiles/fifo")


def test_a_walk_goes_top_down_and_in_order(repository, tiny):
    paths = [path for path, _ in repository.walk()]
    assert paths[0] == b""
    assert len(paths) == len(set(paths)) == len(entries(tiny))
    position = {path: number for number, path in enumerate(paths)}
    assert all(position[path.rpartition(b"/")[0]] < position[path] for path in paths[1:])
    below = [path for path, _ in repository.walk("/chunked")]
    assert below == [b"/chunked", *sorted(path for path in paths if path.startswith(b"/chunked/"))]
    assert [path for path, _ in repository.walk("/chunked/random_1m")] == [b"/chunked/random_1m"]


def test_a_walk_deeper_than_python_s_stack(repository, monkeypatch, row):
    levels = 2000

    def lookup(path):
        return row(b"d", 0o040755)

    def listing(path):
        return [row(b"d", 0o040755)] if path.count(b"/") < levels else []

    monkeypatch.setattr(repository, "lookup", lookup)
    monkeypatch.setattr(repository, "listing", listing)
    assert sum(1 for _ in repository.walk()) == levels + 1


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fqrn", FIXTURES)
@pytest.mark.parametrize("name", ["random_1m", "random_500k", "text_400k", "random_16384"])
def test_reads_at_random_offsets(opened, fixture_repository, fqrn, name):
    repository = opened(fixture_repository(fqrn))
    path = f"/chunked/{name}"
    data = repository.read(path)
    assert hashlib.sha256(data).hexdigest() == entries(fixture_repository(fqrn))[path.encode()]["sha256"]
    chance = random.Random(name)
    with repository.open_file(path) as file:
        for _ in range(200):
            offset, size = chance.randrange(len(data) + 100), chance.choice((0, 1, 100, 70_000, len(data)))
            file.seek(offset)
            assert file.read(size) == data[offset : offset + size]
            assert repository.read(path, offset, size) == data[offset : offset + size]


def test_a_file_is_a_stream_of_the_io_module(repository):
    data = repository.read("/chunked/random_500k")
    with repository.open_file("/chunked/random_500k") as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.seek(-10, os.SEEK_END) == len(data) - 10
        assert file.read() == data[-10:]
        assert file.read() == b""
        file.seek(5)
        assert file.seek(5, os.SEEK_CUR) == 10
        assert file.peek(1)[:1] == data[10:11]
        buffer = bytearray(len(data))
        file.seek(0)
        assert file.readinto(buffer) == len(data)
        assert buffer == data
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")


def descriptors() -> int:
    # What failed openings of other tests left to the collector does not count.
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_open_files_hold_few_descriptors_and_give_all_back(repository):
    repository.read("/chunked/random_1m")
    before = descriptors()
    with repository.open_file("/chunked/random_1m") as file:
        assert len(repository.pieces("/chunked/random_1m", repository.lookup("/chunked/random_1m"))) > 10
        file.read()
        assert before < descriptors() <= before + 4
    assert descriptors() == before


def test_many_threads_read_the_same(repository, tiny):
    expected = entries(tiny)[b"/chunked/random_1m"]["sha256"]
    found = []

    def read() -> None:
        found.append(hashlib.sha256(repository.read("/chunked/random_1m")).hexdigest())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_an_object_is_refused_and_not_kept(publication, opened, tmp_path):
    published = publication()
    sound = opened(published)
    content = sound.lookup("/chunked/random_16383").content
    good = sound.read("/chunked/random_16383")
    (tmp_path / "cache" / content.path.removeprefix("data/")).unlink()
    original = (published.storage / content.path).read_bytes()
    published.flip(content.path, 100)
    with pytest.raises(CorruptObject, match="do not have the hash"):
        sound.read("/chunked/random_16383")
    published.write(content.path, original)
    assert sound.read("/chunked/random_16383") == good


def test_a_flipped_bit_in_a_catalog_is_refused(publication, opened):
    published = publication()
    published.flip(published.manifest.root_catalog.path, 1000)
    with pytest.raises(CorruptObject):
        opened(published).lookup("/")


@pytest.fixture
def damage(tmp_path) -> Callable[[ContentHash, str], Path]:
    """Overwrites the page of a cached catalog where a table or index begins."""

    def overwrite(catalog: ContentHash, table: str) -> Path:
        file = tmp_path / "cache" / catalog.path.removeprefix("data/")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as database:
            (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            (size,) = database.execute("PRAGMA page_size").fetchone()
        data = bytearray(file.read_bytes())
        data[(page - 1) * size : page * size] = bytes([0x5A]) * size
        file.write_bytes(data)
        return file

    return overwrite


@pytest.mark.parametrize(
    ("mountpoint", "table"),
    [
        (b"", "properties"),
        (b"", "catalog"),
        (b"", "nested_catalogs"),
        (b"/names", "properties"),
        (b"/names", "catalog"),
    ],
)
def test_a_catalog_damaged_in_the_cache_is_fetched_again(opened, tiny, damage, mountpoint, table):
    """Whether it shows when the catalog is opened or when it is asked."""
    before = opened(tiny)
    expected = before.listing("/names")
    file = damage(before.tree.governing(mountpoint).content, table)
    damaged = file.read_bytes()
    again = opened(tiny)
    with pytest.raises(BlockingIOError):
        _ = again.tree.listing(b"/names", wait=False), again.tree.listing(b"", wait=False)
    assert again.listing("/names") == expected
    assert again.lookup("/").is_directory
    assert again.tree.governing(b"/names").path == b"/names"
    assert file.read_bytes() != damaged


def test_chunks_of_a_file_out_of_a_damaged_catalog(opened, tiny, damage):
    before = opened(tiny)
    expected = before.read("/chunked/random_1m")
    damage(before.tree.governing(b"/chunked").content, "chunks")
    assert opened(tiny).read("/chunked/random_1m") == expected


def test_a_catalog_that_was_published_damaged_is_fetched_again_once(publication, opened, caplog):
    published = publication()
    nested = opened(published).tree.governing(b"/names").content
    published.publish(root_catalog=nested.as_kind(ObjectKind.CATALOG), root_size=0)
    repository = opened(published)
    for _ in range(3):
        with pytest.raises(FormatError, match="was found at"):
            repository.lookup("/")
    assert sum("fetched again" in record.message for record in caplog.records) == 1


def test_a_nested_catalog_that_is_missing_is_an_error_not_absence(publication, opened):
    published = publication()
    repository = opened(published, cache_dir=None)
    nested = repository.tree.governing(b"/names")
    assert nested.path == b"/names"
    published.flip(nested.content.path, 50)
    with pytest.raises(CorruptObject):
        repository.listing("/names")
    with pytest.raises(CorruptObject):
        repository.exists("/names/none")
    assert repository.exists("/chunked")
    # The mountpoint itself is known from its parent.
    assert repository.lookup("/names").is_directory


def test_a_catalog_that_belongs_elsewhere_is_refused(publication, opened):
    """Signed by its hash, but put at the root of another revision."""
    published = publication()
    nested = opened(published).tree.governing(b"/names").content
    published.publish(root_catalog=nested.as_kind(ObjectKind.CATALOG), root_size=0)
    with pytest.raises(FormatError, match="was found at"):
        opened(published).lookup("/")


def test_no_server(tiny, unused_port):
    with pytest.raises(Unreachable):
        Repository.open(f"http://127.0.0.1:{unused_port}/{tiny.fqrn}", tiny.public_key)


def test_catalogs_in_use_are_pinned_and_released(opened, tiny):
    repository = opened(tiny)
    repository.listing("/names")
    cache = repository.plane.cache
    held = {entry.content.digest for entry in cache.entries() if entry.held}
    assert held == {nested.content.digest for nested in repository.tree.open_catalogs()}
    assert len(held) == 2
    repository.retire()
    assert not [entry for entry in cache.entries() if entry.held]
    # Somebody who is late opens one more: it is not held for ever.
    repository.listing("/versions/v2")
    assert not [entry for entry in cache.entries() if entry.held]
