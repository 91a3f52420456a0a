"""A repository through its cache: streaming, volatile contents, damage found when it is opened, memory, two tiers."""

import logging
import sqlite3
import zlib

import pytest

from cvfs.client.cache.base import EntryKind
from cvfs.client.repository import Repository
from cvfs.client.settings.cache import PosixCache, RamCache, TieredCache
from cvfs.compression import ENCODERS
from cvfs.hashes import ContentHash, ObjectKind

FQRN = "tiny.example.org"


@pytest.fixture
def tiny(fixture_repository):
    return fixture_repository(FQRN)


def _kinds(repository):
    return {entry.content.kind for entry in repository.plane.cache.entries()}


def test_streamed_data_is_not_kept(tiny, opened):
    repository = opened(tiny, streaming=True)
    assert repository.read("/files/hello.txt")
    assert repository.read("/chunked/random_500k")
    assert ObjectKind.CATALOG in _kinds(repository)
    assert not _kinds(repository) & {ObjectKind.FILE, ObjectKind.CHUNK}


def test_damage_in_the_cache_is_made_good(tiny, local_settings, caplog):
    with Repository.open_settings(local_settings(tiny)) as repository:
        expected = repository.read("/files/hello.txt")
        name = repository.lookup("/files/hello.txt").content.name
        place = f"{repository.settings.cache.directory}/{name[:2]}/{name[2:]}"
    with open(place, "r+b") as file:
        file.write(bytes([expected[0] ^ 1]))
    with Repository.open_settings(local_settings(tiny)) as trusting:
        assert trusting.read("/files/hello.txt") != expected
    with (
        caplog.at_level(logging.WARNING),
        Repository.open_settings(local_settings(tiny, verify_on_open=True)) as proving,
    ):
        assert proving.read("/files/hello.txt") == expected
        assert proving.read("/files/hello.txt") == expected
    assert len([record for record in caplog.records if name in record.getMessage()]) == 1
    with Repository.open_settings(local_settings(tiny)) as again:
        assert again.read("/files/hello.txt") == expected


def test_contents_of_a_volatile_repository_are_marked(publication, opened, tmp_path):
    published = publication()
    root = published.manifest.root_catalog
    stored = (published.storage / root.path).read_bytes()
    (tmp_path / "root").write_bytes(zlib.decompress(stored))
    with sqlite3.connect(tmp_path / "root") as database:
        database.execute("INSERT OR REPLACE INTO properties VALUES ('volatile', '1')")
    database.close()
    content = (tmp_path / "root").read_bytes()
    stored = ENCODERS["zlib"].encode(content)
    changed = ContentHash.of(stored, root.algorithm, ObjectKind.CATALOG)
    (published.storage / changed.path).parent.mkdir(exist_ok=True)
    (published.storage / changed.path).write_bytes(stored)
    published.publish(root_catalog=changed, root_size=len(content))
    repository = opened(published)
    repository.read("/files/hello.txt")
    kinds = {entry.content: entry.kind for entry in repository.plane.cache.entries()}
    assert kinds[repository.lookup("/files/hello.txt").content] is EntryKind.VOLATILE
    assert kinds[changed] is EntryKind.CATALOG


@pytest.mark.parametrize("lower_read_only", [True, False])
def test_a_repository_in_memory_above_a_shared_directory(tiny, local_settings, tmp_path, web, lower_read_only):
    server = web(tiny.root)
    lower = PosixCache("below", str(tmp_path / "below"), alien=True)
    tiers = TieredCache("two", RamCache("above", 2**24), lower, lower_read_only)
    given = {"servers": (f"{server.url}/{FQRN}",), "primary": tiers}
    for expected in (1, 1 if lower_read_only else 0):
        server.requests.clear()
        with Repository.open_settings(local_settings(tiny, **given)) as repository:
            name = repository.lookup("/files/hello.txt").content.path
            repository.read("/files/hello.txt")
            repository.read("/files/hello.txt")
        assert sum(path.endswith(name) for path in server.requests) == expected
