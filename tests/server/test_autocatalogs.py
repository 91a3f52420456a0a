"""Catalogs are split and dissolved by weight; a tree that knows nothing of it is published again without harm."""

import os
import random
import shutil
import stat

import pytest

MARKER, AUTOMATIC = b".cvmfscatalog", b".cvmfsautocatalog"


@pytest.fixture
def own(new_repository):
    """Catalogs of 9 to 20 entries."""
    return new_repository(compression="none", autocatalogs=True, autocatalogs_max_weight=20, autocatalogs_min_weight=9)


def fill(directory, count, start=0):
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (directory / f"file{number}").touch()


def catalogs(own):
    """Mountpoint → own entries, of the newest revision."""
    with own.open() as newest:
        found, waiting = {}, [b""]
        while waiting:
            catalog = newest.tree.catalog_at(waiting.pop())
            found[catalog.mountpoint.decode()] = catalog.counters()[0].entries
            waiting += [nested.path for nested in catalog.nested()]
    return found


def seen(own, look_through):
    """The newest revision without what balancing adds."""
    with own.open() as newest:
        tree = look_through(newest)
    automatic = {os.path.dirname(path) for path in tree if os.path.basename(path) == AUTOMATIC}
    return {path: entry for path, entry in tree.items() if not (os.path.dirname(path) in automatic and os.path.basename(path) in (MARKER, AUTOMATIC))}  # fmt: skip


def test_heavy_directories_become_catalogs(own, look, look_through):
    fill(own.tree / "a", 15)
    fill(own.tree / "b/c", 12)
    fill(own.tree / "d", 5)
    lines = []
    own.publish(report=lambda kind, path: lines.append((kind, path)))
    # The heaviest first, and no more than is needed. Two markers come on top.
    assert catalogs(own) == {"": 9, "/a": 18, "/b": 16}
    assert {path for kind, path in lines if kind == "x-catalog-add"} == {b"/a", b"/b"}
    assert seen(own, look_through) == look(os.fsencode(own.tree))
    assert own.check() == []


def test_deepest_first(own):
    fill(own.tree / "a/b/c", 18)
    fill(own.tree / "a/b/d", 19)
    own.publish()
    assert catalogs(own) == {"": 5, "/a/b/c": 21, "/a/b/d": 22}
    assert own.check() == []


def test_nothing_can_be_done_about_many_files_or_small_directories(own):
    fill(own.tree, 30)
    for number in range(10):
        fill(own.tree / f"small{number}", 5)
    own.publish()
    assert catalogs(own).keys() == {""}


def test_the_markers(own):
    fill(own.tree / "a", 25)
    os.chown(own.tree / "a", 5, 6)
    own.publish()
    with own.open() as newest:
        directory = newest.tree.find(b"/a")
        for name in (MARKER, AUTOMATIC):
            row = newest.tree.find(b"/a/" + name)
            assert (row.mode, row.size, row.uid, row.gid) == (stat.S_IFREG | 0o644, 0, 5, 6)
            assert newest.read(b"/a/" + name) == b""
        assert (directory.is_mountpoint, row.mtime) == (True, directory.mtime)


def test_the_tree_is_published_again(own, look, look_through):
    fill(own.tree / "a", 15)
    fill(own.tree / "b", 15)
    own.publish()
    before = catalogs(own)
    assert len(before) > 1
    (own.tree / "b/file3").write_text("new")
    assert (own.publish().removed, catalogs(own)) == (0, before)
    assert seen(own, look_through) == look(os.fsencode(own.tree))
    assert own.check() == []


def test_light_catalogs_are_dissolved(own, look, look_through):
    fill(own.tree / "a", 11)
    fill(own.tree / "b", 15)
    own.publish()
    assert catalogs(own) == {"": 14, "/b": 18}
    for number in range(10):
        (own.tree / "b" / f"file{number}").unlink()
    lines = []
    own.publish(report=lambda kind, path: lines.append((kind, path)))
    assert catalogs(own) == {"": 19}
    assert ("x-catalog-rem", b"/b") in lines
    assert seen(own, look_through) == look(os.fsencode(own.tree))
    with own.open() as newest:
        assert not {row.name for row in newest.tree.listing(b"/b")} & {MARKER, AUTOMATIC}
    assert own.check() == []


def test_dissolving_can_make_the_catalog_above_too_heavy(own):
    fill(own.tree / "a", 15)
    fill(own.tree / "b", 16)
    own.publish()
    assert catalogs(own) == {"": 18, "/b": 19}
    for number in range(11):
        (own.tree / "b" / f"file{number}").unlink()
    own.publish()
    assert catalogs(own) == {"": 8, "/a": 18}
    assert own.check() == []


def test_catalogs_that_somebody_asked_for_stay(own):
    fill(own.tree / "a", 2)
    (own.tree / "a" / MARKER.decode()).touch()
    fill(own.tree / "b", 15)
    own.publish()
    assert "/a" in catalogs(own)
    own.publish()
    assert catalogs(own).keys() == {"", "/a"}


def test_an_automatic_catalog_that_somebody_asks_for(own):
    fill(own.tree / "a", 25)
    own.publish()
    (own.tree / "a" / MARKER.decode()).touch()
    for number in range(3, 25):
        (own.tree / "a" / f"file{number}").unlink()
    own.publish()
    assert catalogs(own).keys() == {"", "/a"}
    with own.open() as newest:
        assert AUTOMATIC not in {row.name for row in newest.tree.listing(b"/a")}


def test_untouched_catalogs_are_left_alone(own):
    fill(own.tree / "a", 15)
    (own.tree / "a" / MARKER.decode()).touch()
    fill(own.tree / "b", 15)
    own.publish()
    with own.open() as newest:
        before = newest.tree.governing(b"/a").content
    fill(own.tree / "b", 15, start=15)
    own.publish()
    with own.open() as newest:
        assert newest.tree.governing(b"/a").content == before


def test_the_revision_names_the_one_before(own):
    fill(own.tree / "a", 15)
    own.publish()
    before = own.manifest()
    fill(own.tree / "b", 15)
    own.publish()
    with own.open() as newest:
        assert newest.tree.root().previous_revision == before.root_catalog
        assert newest.tree.root().revision == before.revision + 1
    assert own.manifest().revision == before.revision + 1


def test_without_being_asked_nothing_is_balanced(new_repository):
    own = new_repository(compression="none", autocatalogs_max_weight=5, autocatalogs_min_weight=1)
    fill(own.tree / "a", 15)
    own.publish()
    assert catalogs(own).keys() == {""}


@pytest.mark.parametrize("seed", range(4))
def test_random_trees(own, look, look_through, seed):
    chance = random.Random(seed)
    for _ in range(4):
        for _ in range(8):
            place = own.tree.joinpath(*(chance.choice("abc") for _ in range(chance.randrange(5))))
            if chance.random() < 0.2 and place != own.tree:
                shutil.rmtree(place, ignore_errors=True)
            fill(place, chance.randrange(12), start=chance.randrange(30))
        own.publish()
        assert seen(own, look_through) == look(os.fsencode(own.tree))
        assert own.check() == []
        sizes = catalogs(own)
        for path, entries in sizes.items():
            # As heavy as is allowed, or nothing in it is heavy enough to become a catalog. Markers come on top.
            assert entries <= 22 or not _candidates(own, path)


def _candidates(own, mountpoint):
    """Directories of a catalog that would make a catalog of their own."""
    with own.open() as newest:
        catalog = newest.tree.catalog_at(mountpoint.encode())
        return [path for path in _directories(catalog, mountpoint.encode()) if _weight(catalog, path) >= 9]


def _directories(catalog, path):
    names = [row.name for row in catalog.listing(path) if row.is_directory and not row.is_mountpoint]
    return [path + b"/" + name for name in names] + [
        found for name in names for found in _directories(catalog, path + b"/" + name)
    ]


def _weight(catalog, path):
    rows = catalog.listing(path)
    below = [_weight(catalog, path + b"/" + row.name) for row in rows if row.is_directory and not row.is_mountpoint]
    return 1 + sum(below) + len(rows) - len(below)
