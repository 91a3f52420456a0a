"""Owners, hard links and bulk hashes changed in the catalogs: nothing else changes, and catalogs that are not concerned stay."""

import os
import random
import stat

import pytest

from cvfs.chunking import ChunkSizes
from cvfs.client.owners import OwnerMap, parse_owner_map
from cvfs.errors import UsageError
from cvfs_server.ways.rewriting import NO_BULK_HASHES, SINGLE_LINKS, owner_mapping, rewrite

EVERYBODY = OwnerMap({}, 1004)
NOBODY = OwnerMap({2**32 - 1: 0})


@pytest.fixture
def own(new_repository):
    """Nested catalogs, of which only some have hard links, chunks, or other owners than 0."""
    own = new_repository(chunk_sizes=ChunkSizes(4096, 8192, 16384), bulk_chunks=True, compression="none")
    for place in ("", "a", "a/b", "a/b/c", "d", "d/e"):
        directory = own.tree / place
        directory.mkdir(exist_ok=True)
        (directory / "file").write_bytes(b"text")
        (directory / "link").symlink_to("file")
        if place:
            (directory / ".cvmfscatalog").touch()
    os.chown(own.tree / "a/b/c/file", 1002, 1003)
    os.chown(own.tree / "d", 1003, 1002)
    os.link(own.tree / "d/e/file", own.tree / "d/e/same")
    os.link(own.tree / "d/e/link", own.tree / "d/e/same link", follow_symlinks=False)
    (own.tree / "a/large").write_bytes(random.Random(1).randbytes(60000))
    os.link(own.tree / "a/large", own.tree / "a/larger")
    os.setxattr(own.tree / "a", "user.test", b"value")
    own.publish()
    return own


def hashes(own):
    """Mountpoint → hash of every catalog."""
    with own.open() as newest:
        found, waiting = {b"": newest.tree.root_hash}, [b""]
        while waiting:
            for nested in newest.tree.catalog_at(waiting.pop()).nested():
                found[nested.path] = nested.content
                waiting.append(nested.path)
    return found


def changed(before, after):
    assert before.keys() == after.keys()
    return {path.decode() for path in before if before[path] != after[path]}


def seen(own, look_through):
    with own.open() as newest:
        return look_through(newest)


@pytest.mark.parametrize(
    ("users", "groups", "catalogs"),
    [
        ("0 1001", "0 1001", {"", "/a", "/a/b", "/a/b/c", "/d", "/d/e"}),
        ("1002 1003\n1003 1002\n# swapped", "5 6", {"", "/a", "/a/b", "/a/b/c", "/d"}),
        ("1002 7", "5 6", {"", "/a", "/a/b", "/a/b/c"}),
        ("5 6", "1002 7", {"", "/d"}),
        ("5 6", "6 5", {""}),
        ("* 1004", "1002 1 # one", {"", "/a", "/a/b", "/a/b/c", "/d", "/d/e"}),
        ("0 0\n* 1004", "0 0", {"", "/a", "/a/b", "/a/b/c", "/d"}),
        ("* 0", "* 0", {"", "/a", "/a/b", "/a/b/c", "/d"}),
    ],
)
def test_owners_are_mapped_all_at_once(own, look_through, users, groups, catalogs):
    before, expected = hashes(own), seen(own, look_through)
    maps = parse_owner_map(users, "users"), parse_owner_map(groups, "groups")
    report = rewrite(own.site, own.fqrn, owner_mapping(*maps))
    mapped = {
        path: entry._replace(uid=maps[0].of(entry.uid), gid=maps[1].of(entry.gid)) for path, entry in expected.items()
    }
    assert seen(own, look_through) == mapped
    assert changed(before, hashes(own)) == catalogs
    assert (report.revision, report.bytes_in, report.added, report.removed) == (3, 0, 0, 0)
    assert report.modified == sum(mapped[path] != expected[path] for path in mapped if path)
    assert own.check() == []


@pytest.mark.parametrize(("users", "groups"), [("", "* 0"), ("* 0", "# nothing\n")])
def test_an_empty_map_is_a_mistake(users, groups):
    with pytest.raises(UsageError, match="map is empty"):
        owner_mapping(parse_owner_map(users, "users"), parse_owner_map(groups, "groups"))


def test_every_name_becomes_a_file_of_its_own(own, look_through):
    before, expected = hashes(own), seen(own, look_through)
    report = rewrite(own.site, own.fqrn, SINGLE_LINKS)
    assert seen(own, look_through) == {
        path: entry._replace(together=(path,) if path else ()) for path, entry in expected.items()
    }
    assert changed(before, hashes(own)) == {"", "/a", "/d", "/d/e"}
    assert report.modified == 6
    with own.open() as newest:
        assert newest.tree.find(b"/d/e/same").hardlinks == 1
        assert newest.tree.chunks(b"/a/large") == newest.tree.chunks(b"/a/larger") != []
        directory = newest.tree.find(b"/a")
        assert stat.S_ISDIR(directory.mode)
        assert directory.linkcount == 3
    assert own.check() == []


def test_chunked_files_lose_the_hash_of_the_whole(own, look_through):
    before, expected = hashes(own), seen(own, look_through)
    with own.open() as newest:
        assert newest.tree.find(b"/a/large").digest
        chunks = newest.tree.chunks(b"/a/large")
    report = rewrite(own.site, own.fqrn, NO_BULK_HASHES)
    assert seen(own, look_through) == expected
    assert changed(before, hashes(own)) == {"", "/a"}
    assert report.modified == 2
    with own.open() as newest:
        assert newest.tree.find(b"/a/large").digest is None
        assert newest.tree.chunks(b"/a/large") == newest.tree.chunks(b"/a/larger") == chunks
        assert newest.tree.find(b"/a/large").hardlinks == newest.tree.find(b"/a/larger").hardlinks > 2**32
    assert own.check() == []


def test_a_second_time_there_is_nothing_to_do(own):
    rewrite(own.site, own.fqrn, SINGLE_LINKS)
    before = hashes(own)
    assert rewrite(own.site, own.fqrn, SINGLE_LINKS).modified == 0
    assert changed(before, hashes(own)) == {""}


@pytest.mark.parametrize("mapping", [owner_mapping(EVERYBODY, NOBODY), SINGLE_LINKS, NO_BULK_HASHES])
def test_random_trees(new_repository, random_edits, look_through, mapping):
    own = new_repository(chunk_sizes=ChunkSizes(4096, 8192, 16384), bulk_chunks=True, compression="none")
    random_edits(os.fsencode(own.tree), random.Random(7)).run(80)
    own.publish()
    expected = seen(own, look_through)
    rewrite(own.site, own.fqrn, mapping)
    for path, entry in seen(own, look_through).items():
        if mapping is SINGLE_LINKS:
            expected[path] = expected[path]._replace(together=(path,) if path else ())
        elif mapping is not NO_BULK_HASHES:
            expected[path] = expected[path]._replace(uid=1004)
        assert entry == expected.pop(path)
    assert expected == {}
    assert own.check() == []
