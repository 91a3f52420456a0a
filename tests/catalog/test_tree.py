"""Catalogs as one tree: the original's revisions, bind mountpoints, and what is opened when (FORMAT sections 5.10, 9.2)."""

import base64
import os
import re
import stat
import threading

import pytest

from cvfs.catalog.tree import CatalogTree
from cvfs.errors import FormatError, NotFound
from cvfs.hashes import Algorithm, ContentHash, ObjectKind

FQRNS = ("tiny.example.org", "tiny-shake128.example.org")
TYPES = {
    "dir": stat.S_IFDIR,
    "file": stat.S_IFREG,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "blk": stat.S_IFBLK,
    "chr": stat.S_IFCHR,
}
# What the original client had in its environment when the manifests were read.
VARIABLES = {b"LAB_TESTVAR": b"labvalue", b"CVMFS_ARCH": b"x86_64"}
DIR = 0o040755


def expanded(target: bytes) -> bytes:
    pattern = rb"\$\((\w+)(?::-([^)]*))?\)"
    return re.sub(pattern, lambda found: VARIABLES.get(found[1], found[2] or b""), target)


def described(entry) -> dict:
    """A row in the words of the manifests."""
    told = {
        "type": next(name for name, bits in TYPES.items() if stat.S_IFMT(entry.mode) == bits),
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": 0 if entry.is_device else entry.size,
        "mtime": entry.mtime,
        "mtime_ns": entry.mtime_ns or 0,
        "nlink": entry.linkcount,
    }
    if entry.is_device:
        told["rdev"] = [os.major(entry.size), os.minor(entry.size)]
    if entry.is_link:
        told["target"] = os.fsdecode(expanded(entry.symlink))
        told["size"] = len(expanded(entry.symlink))
    return told


def walk(tree: CatalogTree, path: bytes = b""):
    yield path, tree.find(path)
    for entry in tree.listing(path):
        below = path + b"/" + entry.name
        if entry.is_hidden:
            continue
        if entry.is_directory:
            yield from walk(tree, below)
        else:
            yield below, entry


def test_an_entry_by_itself_is_that_of_the_listing(published):
    """Also where a nested catalog begins, whether that is open or not."""
    tree = published("tiny.example.org", "s5")
    directories = [path for path, entry in walk(tree) if entry.is_directory]
    for path in directories:
        assert {row.name: tree.entry(path, row.name) for row in tree.listing(path)} == {
            row.name: row for row in tree.listing(path)
        }
        assert tree.entry(path, b"no such name") is None


@pytest.mark.parametrize("tag", ["s1", "s2", "s3", "s4", "s5"])
@pytest.mark.parametrize("fqrn", FQRNS)
def test_the_tree_is_what_the_original_client_showed(fixture_repository, published, fqrn, tag):
    tree = published(fqrn, tag)
    manifest = {item["path"]: item for item in fixture_repository(fqrn).manifests[tag]["entries"]}
    found = {os.fsdecode(path): described(entry) for path, entry in walk(tree)}
    assert found.keys() == manifest.keys()
    asked = ("type", "mode", "uid", "gid", "size", "mtime", "mtime_ns", "nlink", "rdev", "target")
    assert found == {path: {key: item[key] for key in asked if key in item} for path, item in manifest.items()}


@pytest.mark.parametrize("fqrn", FQRNS)
def test_every_path_is_found_by_itself(fixture_repository, published, fqrn):
    tree = published(fqrn, "s5")
    for item in fixture_repository(fqrn).manifests["s5"]["entries"]:
        entry = tree.find(os.fsencode(item["path"]))
        assert described(entry)["type"] == item["type"]
        assert (entry.xattr is not None) == ("xattrs" in item)
        for value in item.get("xattrs", {}).values():
            assert base64.b64decode(value) in entry.xattr
        # The manifests tell the groups of regular files only.
        assert (entry.is_regular and entry.hardlink_group > 0) == ("hardlink_group" in item)


def test_hard_link_groups_are_those_of_the_manifest(fixture_repository, published):
    tree = published(FQRNS[0], "s5")
    groups: dict[int, set] = {}
    for item in fixture_repository(FQRNS[0]).manifests["s5"]["entries"]:
        if "hardlink_group" in item:
            path = os.fsencode(item["path"])
            key = (tree.governing(path).path, tree.find(path).hardlink_group)
            groups.setdefault(item["hardlink_group"], set()).add(key)
    assert len(groups) == 7
    assert all(len(keys) == 1 for keys in groups.values())


@pytest.mark.parametrize("fqrn", FQRNS)
def test_chunks_of_files_are_complete(published, fqrn):
    tree = published(fqrn, "s5")
    chunked = [(path, entry) for path, entry in walk(tree) if entry.is_chunked]
    assert len(chunked) > 5
    for path, entry in chunked:
        chunks = tree.chunks(path)
        assert [chunk.offset for chunk in chunks] == [sum(c.size for c in chunks[:n]) for n in range(len(chunks))]
        assert sum(chunk.size for chunk in chunks) == entry.size
        assert all(chunk.content(entry).kind is ObjectKind.CHUNK for chunk in chunks)


def test_the_stat_of_a_mountpoint_does_not_open_what_is_below(published):
    tree = published(FQRNS[0], "s5")
    entry = tree.find(b"/names")
    assert entry.is_mountpoint
    assert not entry.is_nested_root
    assert [path for path, _ in tree._source.asked] == [b""]
    tree.listing(b"/names")
    assert tree.find(b"/names").is_nested_root, "once open, the nested catalog answers"
    assert [path for path, _ in tree._source.asked] == [b"", b"/names"]
    assert tree.governing(b"/names").path == tree.governing(b"/names/x/y").path == b"/names"
    assert tree.governing(b"/namesake").path == b""


def test_what_is_not_there(published):
    tree = published(FQRNS[0], "s5")
    for path in (
        b"/none",
        b"/names/none",
        b"/none/none",
        b"/files/hello.txt/x",
        b"/names/",
        b"//names",
        b"names",
        b"/",
    ):
        with pytest.raises(NotFound, match="no such file"):
            tree.find(path)
    assert tree.listing(b"/none") == tree.listing(b"/files/hello.txt") == []


# Trees made by hand


def digest(number: int) -> ContentHash:
    return ContentHash(Algorithm.SHA1, bytes([number] * 20), ObjectKind.CATALOG)


@pytest.fixture
def stack(hand_made, entry, memory_source):
    """Root → /a → /a/b → …, one catalog in the other, each with a file `f`; and a tree over them."""

    def make(depth: int = 3, limit: int = 128):
        files, path = {}, b""
        for number in range(depth):
            made = hand_made()
            if path:
                made.property("root_prefix", path.decode())
            made.row(path, entry(path.rpartition(b"/")[2], DIR, flags=0x21 if path else 1)).row(
                path + b"/f", entry(b"f")
            )
            path += b"/%c" % (ord("a") + number)
            if number + 1 < depth:
                made.row(path, entry(path[-1:], DIR, flags=3))
                made.sql.execute(
                    "INSERT INTO nested_catalogs VALUES (?, ?, 0)", (path.decode(), str(digest(number + 1)))
                )
            files[digest(number)] = made.done()
        source = memory_source(files)
        return CatalogTree(digest(0), 0, source, limit), source

    return make


def test_catalogs_nest(stack):
    tree, source = stack(5)
    assert tree.find(b"/a/b/c/d/f").name == b"f"
    assert [path for path, _ in source.asked] == [b"", b"/a", b"/a/b", b"/a/b/c", b"/a/b/c/d"]
    assert [nested.path for nested in tree.open_catalogs()] == [path for path, _ in source.asked]
    assert tree.catalog_at(b"/a/b").mountpoint == b"/a/b"
    assert tree.governing(b"/a/b/c").root_prefix == b"/a/b/c"


def test_without_waiting_nothing_is_fetched(stack):
    tree, source = stack(3)
    source.present = {digest(0)}
    assert tree.find(b"/a", wait=False).is_mountpoint
    for question in (tree.find, tree.listing, tree.chunks, tree.governing, tree.catalog_at):
        with pytest.raises(BlockingIOError):
            question(b"/a/b/f", wait=False)
    assert {wait for _, wait in source.asked} == {False}
    assert tree.find(b"/a/b/f").name == b"f"
    assert tree.find(b"/a/b/f", wait=False).name == b"f"
    source.present = set()
    assert tree.root(wait=False) is tree.root()


def test_without_waiting_not_even_the_root(stack):
    tree, source = stack(1)
    source.present = set()
    for question in (tree.find, tree.listing, tree.chunks, tree.catalog_at):
        with pytest.raises(BlockingIOError):
            question(b"", wait=False)
    with pytest.raises(BlockingIOError):
        tree.root(wait=False)
    assert source.asked == [(b"", False)] * 5


def test_what_is_open_is_bounded_and_the_root_stays(stack):
    tree, source = stack(6, limit=3)
    for _ in range(2):
        assert tree.find(b"/a/b/c/d/e/f").name == b"f"
        assert len(tree.open_catalogs()) == 3
        assert tree.open_catalogs()[0].path == b""
    # The mountpoints above stay known, so the second time needs no catalog on the way.
    assert [path for path, _ in source.asked].count(b"/a") == 1


def test_the_catalog_used_last_stays(hand_made, entry, memory_source):
    made = hand_made().row(b"", entry(b"", DIR))
    files = {}
    for number, name in enumerate((b"x", b"y", b"z"), 1):
        path = b"/" + name
        made.row(path, entry(name, DIR, flags=3))
        made.sql.execute("INSERT INTO nested_catalogs VALUES (?, ?, 0)", (path.decode(), str(digest(number))))
        nested = hand_made().property("root_prefix", path.decode()).row(path, entry(name, DIR, flags=0x21))
        files[digest(number)] = nested.done()
    files[digest(0)] = made.done()
    source = memory_source(files)
    tree = CatalogTree(digest(0), 0, source, 3)
    for path in (b"/x", b"/y", b"/x", b"/z", b"/x"):
        tree.listing(path)
    assert [path for path, _ in source.asked] == [b"", b"/x", b"/y", b"/z"]
    assert {nested.path for nested in tree.open_catalogs()} == {b"", b"/x", b"/z"}


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_the_smallest_limits(stack, limit):
    tree, _ = stack(3, limit=limit)
    assert [tree.find(path).name for path in (b"/f", b"/a/f", b"/a/b/f", b"/f")] == [b"f"] * 4
    assert len(tree.open_catalogs()) <= max(1, limit)


def test_a_catalog_that_fell_out_serves_who_still_reads_it(stack):
    tree, _ = stack(3, limit=1)
    catalog = tree.catalog_at(b"/a")
    tree.listing(b"/a/b")
    assert [nested.path for nested in tree.open_catalogs()] == [b""]
    assert catalog.find(b"/a/f").name == b"f"


def test_a_nested_catalog_that_cannot_be_had_is_no_missing_file(stack):
    tree, source = stack(3)
    source.files[digest(1)].write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert tree.find(b"/a").is_mountpoint
    for path in (b"/a/f", b"/a/b", b"/a/none"):
        with pytest.raises(FormatError):
            tree.find(path)
    assert tree.find(b"/f").name == b"f"


def test_a_bind_mountpoint_shows_another_root(hand_made, entry, memory_source):
    """/.cvmfs/s is a complete older revision, which has a nested catalog /n of its own, and that one /n/o."""
    root = hand_made().row(b"", entry(b"", DIR)).row(b"/n", entry(b"n", DIR, flags=3))
    root.row(b"/.cvmfs", entry(b".cvmfs", DIR, flags=0x8001)).row(b"/.cvmfs/s", entry(b"s", DIR, flags=0x4001))
    root.sql.execute("INSERT INTO bind_mountpoints VALUES ('/.cvmfs/s', ?, 0)", (str(digest(1)),))
    root.sql.execute("INSERT INTO nested_catalogs VALUES ('/n', ?, 0)", (str(digest(2)),))
    older = hand_made().row(b"", entry(b"", DIR)).row(b"/n", entry(b"n", DIR, flags=3)).row(b"/old", entry(b"old"))
    older.sql.execute("INSERT INTO nested_catalogs VALUES ('/n', ?, 0)", (str(digest(2)),))
    nested = hand_made().property("root_prefix", "/n").row(b"/n", entry(b"n", DIR, flags=0x21))
    nested.row(b"/n/f", entry(b"f")).row(b"/n/o", entry(b"o", DIR, flags=3))
    nested.sql.execute("INSERT INTO nested_catalogs VALUES ('/n/o', ?, 0)", (str(digest(3)),))
    inner = hand_made().property("root_prefix", "/n/o").row(b"/n/o", entry(b"o", DIR, flags=0x21))
    inner.row(b"/n/o/g", entry(b"g", size=77))
    made = {digest(0): root, digest(1): older, digest(2): nested, digest(3): inner}
    source = memory_source({content: one.done() for content, one in made.items()})
    tree = CatalogTree(digest(0), 0, source)

    assert tree.find(b"/.cvmfs/s").is_bind_mountpoint
    assert {row.name: row.is_hidden for row in tree.listing(b"")} == {b"n": False, b".cvmfs": True}
    assert {row.name for row in tree.listing(b"/.cvmfs/s")} == {b"n", b"old"}
    assert tree.find(b"/.cvmfs/s/n/f").name == b"f"
    assert tree.find(b"/.cvmfs/s/n/o/g").size == tree.find(b"/n/o/g").size == 77
    with pytest.raises(NotFound):
        tree.find(b"/old")
    shown = {nested.path: nested.root_prefix for nested in tree.open_catalogs()}
    assert shown == {
        b"": b"",
        b"/.cvmfs/s": b"",
        b"/.cvmfs/s/n": b"/n",
        b"/.cvmfs/s/n/o": b"/n/o",
        b"/n": b"/n",
        b"/n/o": b"/n/o",
    }


def test_many_threads_get_what_they_ask_for(published, fixture_repository):
    tree = published(FQRNS[0], "s5", limit=2)
    paths = [os.fsencode(item["path"]) for item in fixture_repository(FQRNS[0]).manifests["s5"]["entries"]]
    wrong, start = [], threading.Barrier(4)

    def ask(offset: int) -> None:
        start.wait(timeout=30)
        for path in paths[offset:] + paths[:offset]:
            if tree.find(path).name != path.rpartition(b"/")[2]:
                wrong.append(path)
        wrong.extend(nested.path for nested in tree.open_catalogs() if nested.path not in paths and nested.path)

    threads = [threading.Thread(target=ask, args=(offset * len(paths) // 4,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert wrong == []


def test_two_threads_that_open_one_catalog_at_once_share_it(stack):
    tree, source = stack(1)
    both, opened, plain = threading.Barrier(2), [], source.open_catalog

    def slow(nested, *, wait):
        both.wait(timeout=30)
        return plain(nested, wait=wait)

    source.open_catalog = slow
    threads = [threading.Thread(target=lambda: opened.append(tree.root())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(opened) == 2
    assert opened[0] is opened[1] is tree.root()
