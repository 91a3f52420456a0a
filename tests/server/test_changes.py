"""A listing against what is published: what becomes of each row, and when equal attributes prove something."""

import dataclasses
import stat

import pytest

from cvfs.format.dirent import DirectoryEntry, Flag, pack_hardlinks, type_flags
from cvfs_server.changes import Kind, Removal, TrustRules, find_changes
from cvfs_server.sources.base import ScannedEntry
from cvfs_server.sources.walk import Listing, ScannedCatalog

SCANNED = 10**18
LONG_BEFORE = SCANNED - 10**10
TRUST = TrustRules(SCANNED)
FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def entry(name, mode=FILE, **changes):
    scanned = ScannedEntry(name, mode, 10, 1_700_000_000, 5, 1, 2, LONG_BEFORE, 2 if stat.S_ISDIR(mode) else 1)
    return scanned._replace(**changes)


def row(name, mode=FILE, **changes):
    links = 2 if stat.S_ISDIR(mode) else 1
    made = DirectoryEntry(name, mode, 10, 1_700_000_000, 5, 1, 2, links, None, int(type_flags(mode)))
    return made._replace(**changes)


class Published:
    """Catalogs by mountpoint, rows by directory: the little of a `CatalogTree` that a comparison asks for."""

    def __init__(self, rows, mountpoints=(b"",)):
        self._rows = rows
        self._mountpoints = mountpoints

    def listing(self, path):
        return self._rows.get(path, [])

    def governing(self, path):
        inside = [m for m in self._mountpoints if path == m or path.startswith(m + b"/")]
        return dataclasses.make_dataclass("Nested", ["path"])(max(inside, key=len))

    def catalog_at(self, path):
        return self

    def find(self, path):
        return row(path.rpartition(b"/")[2], DIRECTORY)


ROOT = ScannedCatalog(b"", entry(b"", DIRECTORY), None)


def compare(entries, rows, *, path=b"/d", catalog=ROOT, mountpoints=(b"",), below=None, trust=TRUST, familiar=True):
    published = Published({path: rows, **(below or {})}, mountpoints)
    before = published.governing(path).path
    listing = Listing(path, entry(b"d", DIRECTORY), catalog, entries, before, familiar=familiar)
    (result,) = find_changes([listing], published, trust)
    return result


def kinds(result):
    return {change.entry.name: (change.kind, change.reads) for change in result.changes}


@pytest.mark.parametrize(
    ("scanned", "published", "expected"),
    [
        ({}, {}, None),
        ({"size": 11}, {}, (Kind.TOUCH, True)),
        ({"mtime": 1}, {}, (Kind.TOUCH, True)),
        ({"mtime_ns": 6}, {}, (Kind.TOUCH, True)),
        ({"mtime_ns": None}, {}, (Kind.TOUCH, True)),
        ({"mode": FILE | 0o111}, {}, (Kind.TOUCH, False)),
        ({"uid": 9}, {}, (Kind.TOUCH, False)),
        ({"gid": 9}, {}, (Kind.TOUCH, False)),
        # Changed since the last scan, or at the time of it: look.
        ({"ctime_ns": SCANNED}, {}, (Kind.TOUCH, True)),
        ({"ctime_ns": SCANNED - 10**9}, {}, (Kind.TOUCH, True)),
        ({"ctime_ns": SCANNED - 3 * 10**9}, {}, None),
        # One name more or less.
        ({"links": 2, "group": 1}, {}, (Kind.TOUCH, False)),
        ({}, {"hardlinks": pack_hardlinks(7, 2)}, (Kind.TOUCH, False)),
        ({}, {"flags": int(Flag.FILE | Flag.EXTERNAL)}, (Kind.TOUCH, True)),
        ({"mode": DIRECTORY}, {}, (Kind.MODIFY, False)),
        ({"mode": LINK}, {}, (Kind.MODIFY, False)),
        ({}, {"mode": LINK}, (Kind.MODIFY, True)),
        ({}, {"mode": DIRECTORY}, (Kind.MODIFY, True)),
    ],
)
def test_a_file(scanned, published, expected):
    result = compare([entry(b"f", **scanned)], [row(b"f", **published)])
    assert kinds(result) == ({b"f": expected} if expected else {})
    assert list(result.removals) == []


@pytest.mark.parametrize(
    ("mode", "scanned", "expected"),
    [
        (DIRECTORY, {}, None),
        (DIRECTORY, {"links": 3}, (Kind.TOUCH, False)),
        (DIRECTORY, {"size": 8192}, (Kind.TOUCH, False)),
        (DIRECTORY, {"is_mountpoint": True}, (Kind.TOUCH, False)),
        (DIRECTORY, {"ctime_ns": SCANNED}, (Kind.TOUCH, False)),
        (LINK, {}, None),
        (LINK, {"ctime_ns": SCANNED}, (Kind.TOUCH, False)),
        (stat.S_IFIFO, {}, None),
        (stat.S_IFIFO, {"mode": stat.S_IFSOCK}, (Kind.MODIFY, False)),
    ],
)
def test_what_is_no_file_is_never_read(mode, scanned, expected):
    result = compare([entry(b"x", mode)._replace(**scanned)], [row(b"x", mode)])
    assert kinds(result) == ({b"x": expected} if expected else {})


@pytest.mark.parametrize(
    ("trust", "familiar", "scanned", "expected"),
    [
        (TrustRules(), True, {}, (Kind.TOUCH, True)),
        (TRUST, False, {}, (Kind.TOUCH, True)),
        (TrustRules(0, trust_mtime=True), False, {}, (Kind.TOUCH, False)),
        (TrustRules(0, trust_mtime=True), True, {"size": 11}, (Kind.TOUCH, True)),
        (TrustRules(0, trust_mtime=True), True, {"mtime_ns": 6}, (Kind.TOUCH, True)),
    ],
)
def test_what_is_believed(trust, familiar, scanned, expected):
    result = compare([entry(b"f", **scanned)], [row(b"f")], trust=trust, familiar=familiar)
    assert kinds(result) == {b"f": expected}


def test_new_names_are_read():
    result = compare([entry(b"a"), entry(b"b", LINK), entry(b"c", DIRECTORY)], [])
    assert kinds(result) == {b"a": (Kind.ADD, True), b"b": (Kind.ADD, False), b"c": (Kind.ADD, False)}
    assert [change.path for change in result.changes] == [b"/d/a", b"/d/b", b"/d/c"]


def test_names_of_one_file_are_read_together():
    group = {"links": 2, "group": 1}
    rows = [row(b"a"), row(b"c")]
    result = compare([entry(b"a", **group), entry(b"b", **group), entry(b"c", uid=9)], rows)
    assert kinds(result) == {b"a": (Kind.TOUCH, True), b"b": (Kind.ADD, True), b"c": (Kind.TOUCH, False)}


@pytest.mark.parametrize(
    ("links", "hardlinks", "kept"),
    [
        (2, (pack_hardlinks(7, 2), pack_hardlinks(7, 2)), True),
        (2, (pack_hardlinks(7, 3), pack_hardlinks(7, 3)), False),
        (2, (pack_hardlinks(7, 2), pack_hardlinks(8, 2)), False),
        (2, (1, 1), False),
        (2, (2, 2), False),
    ],
)
def test_a_group_of_the_same_names_keeps_its_number(links, hardlinks, kept):
    scanned = [entry(name, links=links, group=1) for name in (b"a", b"b")]
    rows = [row(name, hardlinks=packed) for name, packed in zip((b"a", b"b"), hardlinks, strict=True)]
    result = compare(scanned, rows)
    if kept:
        assert result.changes == []
    else:
        assert [change.hardlinks for change in result.changes] == [None, None]


NESTED = ScannedCatalog(b"/d", entry(b"d", DIRECTORY), ROOT)


def test_a_new_catalog_takes_its_rows():
    packed = pack_hardlinks(7, 2)
    scanned = [entry(b"a", links=2, group=1), entry(b"b", links=2, group=1), entry(b"c")]
    rows = [row(b"a", hardlinks=packed), row(b"b", hardlinks=packed), row(b"c")]
    result = compare(scanned, rows, catalog=NESTED)
    assert result.moved_from == b""
    # A number is unique within a catalog only: groups get new ones.
    assert [(change.kind, change.hardlinks) for change in result.changes] == [
        (Kind.TOUCH, None),
        (Kind.TOUCH, None),
        (Kind.MOVE, 1),
    ]
    assert result.own.kind is Kind.MOVE


def test_a_dissolved_catalog_gives_its_rows_back():
    result = compare([entry(b"a")], [row(b"a")], mountpoints=(b"", b"/d"))
    assert (result.moved_from, kinds(result)) == (b"/d", {b"a": (Kind.MOVE, False)})
    assert result.own is None


def test_a_catalog_that_stays_moves_nothing():
    result = compare([entry(b"a")], [row(b"a")], catalog=NESTED, mountpoints=(b"", b"/d"))
    assert (result.moved_from, result.changes) == (None, [])
    assert result.own.kind is Kind.TOUCH


BELOW = {
    b"/d/x": [row(b"f"), row(b"y", DIRECTORY, flags=int(Flag.DIRECTORY | Flag.NESTED_MOUNTPOINT))],
    b"/d/x/y": [row(b"g")],
}


@pytest.mark.parametrize("replaced", [False, True])
def test_what_is_gone_is_gone_with_all_below(replaced):
    scanned = [entry(b"x")] if replaced else []
    directory = row(b"x", DIRECTORY)
    result = compare(scanned, [directory], below=BELOW, mountpoints=(b"", b"/d/x/y"))
    found = {(removal.path, removal.mountpoint) for removal in result.removals}
    below = {(b"/d/x/f", b""), (b"/d/x/y", b""), (b"/d/x/y/g", b"/d/x/y")}
    assert found == (below if replaced else below | {(b"/d/x", b"")})


def test_what_a_bind_mountpoint_shows_is_not_ours():
    bind = row(b"x", DIRECTORY, flags=int(Flag.DIRECTORY | Flag.BIND_MOUNTPOINT))
    assert list(compare([], [bind], below=BELOW).removals) == [Removal(b"/d/x", bind, b"")]


def test_a_removed_tree_is_not_held_in_memory():
    class Asked(Published):
        asked: list[bytes]

        def listing(self, path):
            self.asked.append(path)
            return super().listing(path)

    published = Asked({b"/d": [row(b"x", DIRECTORY)], **BELOW})
    published.asked = []
    listing = Listing(b"/d", entry(b"d", DIRECTORY), ROOT, [])
    (result,) = find_changes([listing], published, TRUST)
    assert published.asked == [b"/d"]
    first = next(iter(result.removals))
    assert (first.path, published.asked) == (b"/d/x", [b"/d"])
    # Whoever counts them and whoever removes them see the same.
    assert [removal.path for removal in result.removals] == [removal.path for removal in result.removals]
    assert published.asked[1:] == [b"/d/x", b"/d/x/y"] * 2
