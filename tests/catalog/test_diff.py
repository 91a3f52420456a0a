"""What differs between revisions, against what the original client showed of both (FORMAT sections 5.2 to 5.10)."""

import itertools
import os

import pytest

from cvfs.catalog.diff import differences, directory_differences
from cvfs.catalog.tree import CatalogTree
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, pack_hardlinks
from cvfs.hashes import Algorithm, ContentHash, ObjectKind, parent_path

FQRNS = ("tiny.example.org", "tiny-shake128.example.org")
TAGS = ("s1", "s2", "s3", "s4", "s5")
DIR = 0o040755


def manifest(repository, tag) -> dict[bytes, dict]:
    """Without the numbers of hard-link groups, which mean nothing across revisions."""
    entries = repository.manifests[tag]["entries"]
    return {os.fsencode(e["path"]): {k: v for k, v in e.items() if k != "hardlink_group"} for e in entries}


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(TAGS, 2)))
@pytest.mark.parametrize("fqrn", FQRNS)
def test_between_any_two_revisions_of_the_original_tools(fixture_repository, published, fqrn, before, after):
    old, new = (manifest(fixture_repository(fqrn), tag) for tag in (before, after))
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    assert changed
    found = list(differences(published(fqrn, before), published(fqrn, after)))
    assert {d.path for d in found} == changed
    assert len(found) == len(changed)
    for difference in found:
        assert (difference.old is None) == (difference.path not in old)
        assert (difference.new is None) == (difference.path not in new)
        for entry in (difference.old, difference.new):
            assert entry is None or not difference.path or entry.name == difference.path.rpartition(b"/")[2]


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(TAGS)))
def test_directory_by_directory(fixture_repository, published, before, after):
    repository = fixture_repository(FQRNS[0])
    old, new = manifest(repository, before), manifest(repository, after)
    trees = published(FQRNS[0], before), published(FQRNS[0], after)
    found = [d.path for path in sorted(old.keys() | new.keys()) for d in directory_differences(*trees, path)]
    changed = {path for path in old.keys() | new.keys() if path and old.get(path) != new.get(path)}
    assert sorted(found) == sorted(changed)


def test_directories_come_before_what_is_in_them_and_names_in_order(published):
    paths = [d.path for d in differences(published(FQRNS[0], "s1"), published(FQRNS[0], "s5"))]
    place = {path: number for number, path in enumerate(paths)}
    assert all(place[parent_path(path)] < place[path] for path in paths if path and parent_path(path) in place)
    for _, names in itertools.groupby(paths[1:], parent_path):
        listed = list(names)
        assert listed == sorted(listed)


def test_equal_revisions_are_not_looked_into(published):
    old, new = published(FQRNS[0], "s5"), published(FQRNS[0], "trunk")
    assert list(differences(old, new)) == []
    assert directory_differences(old, new, b"/files") == []
    assert [path for path, _ in old._source.asked + new._source.asked] == [b"", b""], "the root rows only"


# Trees made by hand


def digest(number: int) -> ContentHash:
    return ContentHash(Algorithm.SHA1, bytes([number] * 20), ObjectKind.CATALOG)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": 0o100600},
        {"size": 4},
        {"mtime": 7},
        {"mtime_ns": 6},
        {"mtime_ns": None},
        {"uid": 1},
        {"gid": 1},
        {"digest": b"\x08" * 20},
        {"flags": 0x8004},
        {"flags": 0x104},
        {"xattr": b"\1\1\1\1kv"},
        {"hardlinks": pack_hardlinks(0, 2)},
    ],
)
def test_a_change_of_any_column_is_a_difference(tree, entry, change):
    old = tree({b"": (1, {b"/f": entry(b"f"), b"/g": entry(b"g")})})
    new = tree({b"": (2, {b"/f": entry(b"f", **change), b"/g": entry(b"g")})})
    (found,) = differences(old, new)
    assert (found.path, found.old, found.new) == (b"/f", entry(b"f"), entry(b"f", **change))
    assert directory_differences(old, new, b"") == [found]


def test_numbers_of_hard_link_groups_make_no_difference(tree, entry):
    old = tree({b"": (1, {b"/f": entry(b"f", hardlinks=pack_hardlinks(1, 2))})})
    new = tree({b"": (2, {b"/f": entry(b"f", hardlinks=pack_hardlinks(9, 2))})})
    assert list(differences(old, new)) == []


def test_where_a_nested_catalog_begins_makes_no_difference(tree, entry):
    plain = tree({b"": (1, {b"/n": entry(b"n", DIR), b"/n/f": entry(b"f")})})
    nested = tree({b"": (2, {b"/n": entry(b"n", DIR, flags=3)}), b"/n": (3, {b"/n/f": entry(b"f")})})
    assert list(differences(plain, nested)) == list(differences(nested, plain)) == []
    other = tree({b"": (4, {b"/n": entry(b"n", DIR, flags=3)}), b"/n": (5, {b"/n/g": entry(b"g")})})
    assert [d.path for d in differences(plain, other)] == [b"/n/f", b"/n/g"]
    assert [d.path for d in directory_differences(nested, other, b"/n")] == [b"/n/f", b"/n/g"]


def test_equal_nested_catalogs_are_not_opened(tree, entry):
    def revision(root: int, changed: int) -> CatalogTree:
        rows = {b"/f": entry(b"f", size=root), b"/n": entry(b"n", DIR, flags=3), b"/m": entry(b"m", DIR, flags=3)}
        below = {b"/n/f": entry(b"f"), b"/n/d": entry(b"d", DIR)}
        return tree({b"": (root, rows), b"/n": (3, below), b"/m": (changed, {b"/m/g": entry(b"g", size=changed)})})

    old, new = revision(1, 4), revision(2, 5)
    assert [d.path for d in differences(old, new)] == [b"/f", b"/m/g"]
    assert directory_differences(old, new, b"/n") == []
    for side in (old, new):
        assert {path for path, _ in side._source.asked} == {b"", b"/m"}


def test_the_same_catalog_elsewhere_is_not_the_same_tree(tree, entry):
    old = tree({b"": (1, {b"/n": entry(b"n", DIR, flags=3)}), b"/n": (3, {b"/n/f": entry(b"f")})})
    new = tree({b"": (2, {b"/m": entry(b"m", DIR, flags=3)}), b"/m": (3, {b"/m/f": entry(b"f")})})
    assert [(d.path, d.old is None, d.new is None) for d in differences(old, new)] == [
        (b"/m", True, False),
        (b"/n", False, True),
        (b"/m/f", True, False),
        (b"/n/f", False, True),
    ]


@pytest.mark.parametrize("pieces", [(Chunk(0, 3, b"\2" * 20),), (Chunk(0, 1, b"\1" * 20), Chunk(1, 2, b"\1" * 20)), ()])
def test_equal_rows_with_other_chunks_differ(tree, entry, pieces):
    rows = {b"/c": entry(b"c", flags=0x44, digest=None), b"/f": entry(b"f")}
    old = tree({b"": (1, rows)}, [(b"/c", Chunk(0, 3, b"\1" * 20)), (b"/f", Chunk(0, 3, b"\1" * 20))])
    same = tree({b"": (2, rows)}, [(b"/c", Chunk(0, 3, b"\1" * 20))])
    new = tree({b"": (3, rows)}, [(b"/c", piece) for piece in pieces])
    assert list(differences(old, same)) == []
    assert [d.path for d in differences(old, new)] == [b"/c"]


def test_a_directory_that_became_a_file_and_back(tree, entry):
    old = tree({b"": (1, {b"/x": entry(b"x", DIR), b"/x/y": entry(b"y", DIR), b"/x/y/z": entry(b"z")})})
    new = tree({b"": (2, {b"/x": entry(b"x")})})
    assert [d.path for d in differences(old, new)] == [b"/x", b"/x/y", b"/x/y/z"]
    assert [d.path for d in directory_differences(old, new, b"/x")] == [b"/x/y"]
    assert [(d.old, d.new.name) for d in directory_differences(new, old, b"/x")] == [(None, b"y")]
    assert directory_differences(old, new, b"/none") == []


def test_the_root_itself_can_differ(tree, hand_made, memory_source, entry):
    old = tree({b"": (1, {})})
    file = hand_made().row(b"", entry(b"", DIR, mtime=5)).done()
    new = CatalogTree(digest(2), 0, memory_source({digest(2): file}))
    assert [(d.path, d.new.mtime) for d in differences(old, new)] == [(b"", 5)]


def test_deep_trees_need_no_recursion(tree, entry):
    path, rows = b"", {}
    for _ in range(1100):
        path += b"/d"
        rows[path] = entry(b"d", DIR)
    found = list(differences(tree({b"": (1, {})}), tree({b"": (2, rows)})))
    assert len(found) == 1100
    assert found[-1].path == path


def test_a_tree_deeper_than_paths_can_be_is_refused(tree, entry):
    path, rows = b"", {}
    for _ in range(50):
        path += b"/" + b"d" * 90
        rows[path] = entry(b"d", DIR)
    with pytest.raises(FormatError, match="deeper"):
        list(differences(tree({b"": (1, {})}), tree({b"": (2, rows)})))
