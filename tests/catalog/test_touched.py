"""Untouched directories are alike on both sides, whatever tools published them (FORMAT sections 5.2 to 5.10)."""

import itertools

import pytest

from cvfs.catalog.diff import differences
from cvfs.catalog.touched import TouchedDirectories
from cvfs.format.dirent import Chunk

FQRNS = ("tiny.example.org", "tiny-shake128.example.org")
DIR = 0o040755
TAGS = ("s1", "s2", "s3", "s4", "s5")


def directories(tree):
    waiting, found = [b""], []
    while waiting:
        found.append(waiting.pop())
        waiting += [found[-1] + b"/" + row.name for row in tree.listing(found[-1]) if row.is_directory]
    return found


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(TAGS, 2)))
@pytest.mark.parametrize("fqrn", FQRNS)
def test_between_any_two_revisions(published, fqrn, before, after):
    old, new = published(fqrn, before), published(fqrn, after)
    touched = TouchedDirectories(old, new)
    differing = {difference.path for difference in differences(old, new)}
    ancestors = {path[:end] for path in differing for end in range(len(path)) if path[end : end + 1] == b"/"}
    both = set(directories(old)) & set(directories(new))
    may_differ = {path for path in both if touched.may_differ(path)}
    assert ancestors & both <= may_differ


def test_only_the_way_to_a_change_is_touched(tree, entry):
    def revision(root, **changes):
        rows = {path: entry(path.rpartition(b"/")[2], DIR) for path in (b"/a", b"/a/b", b"/a/c", b"/d", b"/d/e")}
        return tree({b"": (root, {**rows, b"/a/b/f": entry(b"f", **changes), b"/d/e/g": entry(b"g")})})

    touched = TouchedDirectories(revision(1), revision(2, size=5))
    assert [path for path in (b"", b"/a", b"/a/b", b"/a/c", b"/d", b"/d/e") if touched.may_differ(path)] == [
        b"",
        b"/a",
        b"/a/b",
    ]


@pytest.mark.parametrize("pieces", [(Chunk(0, 3, b"\2" * 20),), (Chunk(0, 1, b"\1" * 20), Chunk(1, 2, b"\1" * 20)), ()])
def test_equal_rows_with_other_chunks(tree, entry, pieces):
    def revision(root, chunks):
        rows = {b"/d": entry(b"d", DIR), b"/d/f": entry(b"f", flags=0x44), b"/e": entry(b"e", DIR)}
        return tree({b"": (root, rows)}, [(b"/d/f", chunk) for chunk in chunks])

    touched = TouchedDirectories(revision(1, (Chunk(0, 3, b"\1" * 20),)), revision(2, pieces))
    assert [path for path in (b"", b"/d", b"/e") if touched.may_differ(path)] == [b"", b"/d"]


def test_catalogs_that_begin_elsewhere_may_differ(tree, entry):
    plain = tree({b"": (1, {b"/n": entry(b"n", DIR), b"/n/f": entry(b"f"), b"/m": entry(b"m", DIR)})})
    nested = {b"": (2, {b"/n": entry(b"n", DIR, flags=3), b"/m": entry(b"m", DIR)}), b"/n": (3, {b"/n/f": entry(b"f")})}
    for old, new in ((plain, tree(nested)), (tree(nested), plain)):
        touched = TouchedDirectories(old, new)
        assert [path for path in (b"", b"/n", b"/m") if touched.may_differ(path)] == [b"", b"/n"]


def test_what_differs_in_a_nested_catalog_touches_the_way_to_it(tree, entry):
    def revision(root, content, size):
        rows = {b"/n": entry(b"n", DIR, flags=3), b"/e": entry(b"e", DIR)}
        nested = {b"/n/m": entry(b"m", DIR, flags=3), b"/n/d": entry(b"d", DIR)}
        innermost = {b"/n/m/f": entry(b"f", size=size)}
        return tree({b"": (root, rows), b"/n": (content, nested), b"/n/m": (content + 2, innermost)})

    touched = TouchedDirectories(revision(1, 3, 1), revision(2, 4, 2))
    paths = (b"", b"/n", b"/n/m", b"/n/d", b"/e")
    assert [path for path in paths if touched.may_differ(path)] == [b"", b"/n", b"/n/m"]


def test_equal_revisions_are_not_read(published):
    old, new = published(FQRNS[0], "s3"), published(FQRNS[0], "s3")
    touched = TouchedDirectories(old, new)
    assert not any(touched.may_differ(path) for path in directories(old))


def test_one_pass_over_a_pair_of_catalogs(published, monkeypatch):
    old, new = published(FQRNS[0], "s1"), published(FQRNS[0], "s2")
    touched = TouchedDirectories(old, new)
    expected = {path: touched.may_differ(path) for path in directories(old)}
    monkeypatch.setattr("cvfs.catalog.touched._touched", None)
    assert {path: touched.may_differ(path) for path in directories(old)} == expected
