"""The stream of listings: its order, what an entry says, groups of names, catalogs, what is refused or left out."""

import os
import stat

import pytest
from published import Nothing

from cvfs.errors import Unpublishable
from cvfs_server.sources.scan import ScanRules, TreeSource
from cvfs_server.sources.walk import WalkRules, walk


@pytest.fixture
def tree(tmp_path):
    """Makes a tree: names that end with a slash are directories, others are empty files."""

    def make(*names):
        for name in names:
            place = tmp_path / "tree" / name
            (place if name.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                place.touch()
        return os.fsencode(tmp_path / "tree")

    return make


def scan(top, rules):
    return walk(TreeSource(top, rules), Nothing(), WalkRules())


def _listings(top, **rules):
    return list(scan(top, ScanRules(**rules)))


def _one(top, path=b"", **rules):
    (listing,) = [listing for listing in _listings(top, **rules) if listing.path == path]
    return listing


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["x/"], [b"/x", b""]),
        (["b/c/", "b/a/", "a/z/"], [b"/a/z", b"/a", b"/b/a", b"/b/c", b"/b", b""]),
        (["a/f", "a b/", "a-/"], [b"/a", b"/a b", b"/a-", b""]),
    ],
)
def test_children_come_first_the_root_last(tree, names, order):
    assert [listing.path for listing in _listings(tree(*names))] == order


def test_entries_are_in_order_with_directories_behind(tree):
    names = [entry.name for entry in _one(tree("b/", "a/", "z", "c", "\u00fc")).entries]
    assert names == [b"c", b"z", "\u00fc".encode(), b"a", b"b"]


def test_the_stream_is_lazy(tree):
    """What was not reached yet may still change."""
    top = tree("a/file", "b/file")
    listings = scan(top, ScanRules())
    assert next(listings).path == b"/a"
    os.unlink(top + b"/b/file")
    assert next(listings).entries == []


def test_what_an_entry_says(tree):
    top = tree("d/", "file", "dir/one/", "dir/two/", "dir/file")
    os.symlink(b"\xff target", top + b"/d/link")
    os.mkfifo(top + b"/d/fifo", 0o640)
    with open(top + b"/d/file", "wb") as file:
        file.write(b"12345")
    os.chmod(top + b"/d/file", 0o4711)
    os.utime(top + b"/d/file", ns=(0, 1_700_000_000_123_456_789))
    fifo, file, link = _one(top, b"/d").entries
    assert (file.mode, file.size, file.mtime, file.mtime_ns) == (0o104711, 5, 1_700_000_000, 123_456_789)
    assert (file.uid, file.gid, file.links, file.group) == (os.geteuid(), os.stat(top + b"/d").st_gid, 1, 0)
    assert file.ctime_ns == os.stat(top + b"/d/file").st_ctime_ns
    assert (link.symlink, link.size, stat.S_ISLNK(link.mode)) == (b"\xff target", 8, True)
    assert (fifo.size, stat.S_ISFIFO(fifo.mode)) == (0, True)
    assert _one(top, b"/d", mtime_ns=False).entries[1].mtime_ns is None
    root = _one(top)
    assert [(entry.name, entry.links) for entry in root.entries] == [(b"file", 1), (b"d", 2), (b"dir", 4)]
    assert root.directory.links == 4


def test_times_before_the_epoch(tree):
    top = tree("file")
    os.utime(top + b"/file", ns=(0, -1))
    (entry,) = _one(top).entries
    assert (entry.mtime, entry.mtime_ns) == (-1, 999_999_999)


def test_names_of_one_file(tree):
    top = tree("d/a", "d/c", "e/", "d/e", "d/f")
    for source, name in ((b"/d/a", b"/d/b"), (b"/d/c", b"/d/d"), (b"/d/a", b"/d/g"), (b"/d/e", b"/e/elsewhere")):
        os.link(top + source, top + name)
    found = {entry.name: (entry.links, entry.group) for entry in _one(top, b"/d").entries}
    assert found == {b"a": (3, 1), b"b": (3, 1), b"g": (3, 1), b"c": (2, 2), b"d": (2, 2), b"e": (1, 0), b"f": (1, 0)}
    assert [(entry.links, entry.group) for entry in _one(top, b"/e").entries] == [(1, 0)]


def test_names_of_one_link_and_one_fifo(tree):
    top = tree("d/")
    os.symlink("x", top + b"/d/a")
    os.link(top + b"/d/a", top + b"/d/b", follow_symlinks=False)
    os.mkfifo(top + b"/d/c")
    os.link(top + b"/d/c", top + b"/d/d")
    assert [(entry.links, entry.group) for entry in _one(top, b"/d").entries] == [(2, 1), (2, 1), (2, 2), (2, 2)]


def _mountpoints(top):
    return {
        listing.path: (listing.catalog.mountpoint, listing.catalog.parent and listing.catalog.parent.mountpoint)
        for listing in _listings(top)
    }


def test_catalogs(tree):
    top = tree("a/.cvmfscatalog", "a/b/c/.cvmfscatalog", "a/b/c/d/", "e/")
    assert _mountpoints(top) == {
        b"": (b"", None),
        b"/a": (b"/a", b""),
        b"/a/b": (b"/a", b""),
        b"/a/b/c": (b"/a/b/c", b"/a"),
        b"/a/b/c/d": (b"/a/b/c", b"/a"),
        b"/e": (b"", None),
    }
    flags = {entry.name: entry.is_mountpoint for listing in _listings(top) for entry in listing.entries}
    assert {name for name, is_mountpoint in flags.items() if is_mountpoint} == {b"a", b"c"}


@pytest.mark.parametrize(
    ("path", "mountpoint", "encloses"),
    [
        (b"/a/b/c", b"/a/b/c", True),
        (b"/a/b/c", b"/a", True),
        (b"/a/b/c", b"", True),
        (b"/a/b/c", b"/a/b", False),
        (b"/a/b/c", b"/a/b/c/d", False),
        (b"/a/b/c", b"/e", False),
        (b"/a", b"/a/b/c", False),
        (b"", b"", True),
        (b"", b"/a", False),
    ],
)
def test_which_catalogs_enclose_another(tree, path, mountpoint, encloses):
    top = tree("a/.cvmfscatalog", "a/b/c/.cvmfscatalog")
    assert _one(top, path).catalog.encloses(mountpoint) is encloses


def test_a_dirtab_makes_markers(tree):
    top = tree("a/x/", "a/y/z/", "a/skip/", "b/x/", "a/own/.cvmfscatalog")
    with open(top + b"/.cvmfsdirtab", "wb") as file:
        file.write(b"/a/*\n! /a/skip\n")
    os.chmod(top + b"/a/x", 0o750)
    found = {listing.path: listing for listing in _listings(top)}
    made = {path for path, listing in found.items() if any(entry.generated for entry in listing.entries)}
    assert made == {b"/a/x", b"/a/y"}
    assert {path for path, listing in found.items() if listing.catalog.mountpoint == path} == made | {b"", b"/a/own"}
    (marker,) = found[b"/a/x"].entries
    assert (marker.name, marker.mode, marker.size, marker.links) == (b".cvmfscatalog", 0o100644, 0, 1)
    assert (marker.mtime, marker.uid) == (found[b"/a/x"].directory.mtime, found[b"/a/x"].directory.uid)
    assert not os.path.exists(top + b"/a/x/.cvmfscatalog")


def test_a_dirtab_counts_at_the_top_only(tree):
    top = tree("a/b/")
    with open(top + b"/a/.cvmfsdirtab", "wb") as file:
        file.write(b"/a/b\n")
    assert set(_mountpoints(top).values()) == {(b"", None)}


def test_special_files_are_left_out(tree):
    top = tree("file", "d/")
    os.mkfifo(top + b"/fifo")
    os.symlink("x", top + b"/link")
    names = {entry.name for entry in _one(top, ignore_special_files=True).entries}
    assert names == {b"file", b"d", b"link"}


def test_known_directories(tree):
    """Asked of each directory, and believed only below directories that are known themselves."""
    top = tree("a/b/c/", "d/")
    asked = {}

    def recognise(path, inode):
        asked[path] = inode
        return path != b"/a/b"

    listings = walk(TreeSource(top, ScanRules()), Nothing(), WalkRules(recognise))
    familiar = {listing.path: listing.familiar for listing in listings}
    assert familiar == {b"": True, b"/a": True, b"/a/b": False, b"/a/b/c": False, b"/d": True}
    assert asked == {path: os.stat(top + path).st_ino for path in familiar}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([".cvmfscatalog"], "/.cvmfscatalog: the root"),
        (["a/.cvmfscatalog/"], "/a/.cvmfscatalog: must be a regular file"),
        ([".cvmfs/"], "/.cvmfs: this name is reserved"),
        ([".cvmfs"], "/.cvmfs: this name is reserved"),
        ([".cvmfsdirtab/"], "/.cvmfsdirtab: must be a regular file"),
    ],
)
def test_refused(tree, names, message):
    with pytest.raises(Unpublishable) as caught:
        _listings(tree(*names))
    assert str(caught.value).startswith(message)


def test_reserved_names_are_reserved_at_the_top_only(tree):
    assert [entry.name for entry in _one(tree("a/.cvmfs/"), b"/a").entries] == [b".cvmfs"]


def test_a_directory_that_vanishes_is_named(tree):
    top = tree("a/file", "b/file")
    listings = scan(top, ScanRules())
    next(listings)
    os.unlink(top + b"/b/file")
    os.rmdir(top + b"/b")
    with pytest.raises(Unpublishable, match="/b: No such file or directory; nothing was published"):
        list(listings)


@pytest.mark.parametrize("place", ["missing", "file"])
def test_no_tree(tree, place):
    top = tree("file")
    with pytest.raises(Unpublishable, match=place):
        _listings(top + b"/" + place.encode())


def test_more_levels_than_calls(tree):
    """Deeper than Python's stack; the path still fits."""
    top = tree("x/")
    levels = [b"/x" + b"/d" * number for number in range(1, 1201)]
    for path in levels:
        os.mkdir(top + path)
    assert sum(1 for _ in scan(top, ScanRules())) == 1202
    # Neither can what clears up after a test.
    for path in reversed(levels):
        os.rmdir(top + path)
