"""Catalogs come, go and move with their markers; what is not touched keeps its hash, what is counted stays right."""

import itertools
import os
import shutil
import sqlite3
import zlib

import pytest

DIRECTORIES = ("a", "a/b", "a/b/c", "a/b/c/d", "x")
MARKER = ".cvmfscatalog"


@pytest.fixture
def own(new_repository):
    made = new_repository()
    for directory in DIRECTORIES:
        (made.tree / directory).mkdir()
        (made.tree / directory / "file").write_text(directory)
    os.link(made.tree / "a/b/c/file", made.tree / "a/b/c/link")
    return made


def _mark(own, marked):
    for directory in DIRECTORIES:
        marker = own.tree / directory / MARKER
        if directory not in marked:
            marker.unlink(missing_ok=True)
        elif not marker.exists():
            marker.touch()


def _catalogs(repository, path=b""):
    """Hash of each catalog by mountpoint, and the mountpoint above."""
    found = {}
    for nested in repository.tree.catalog_at(path).nested():
        found[nested.path] = (nested.content, path)
        found |= _catalogs(repository, nested.path)
    return found


def _every_change(states):
    """A sequence in which every state follows upon every other one."""
    last = len(states) - 1
    order = [n for i in range(last) for j in range(i + 1, last + 1) for n in (i, j)] + [0]
    assert set(itertools.pairwise(order)) == set(itertools.permutations(range(last + 1), 2))
    return [states[n] for n in order]


@pytest.mark.slow
def test_every_set_of_markers_after_every_other_one(own, look, look_through):
    """Splits, dissolutions, and registrations that move up and down; nothing else changes on the way."""
    movable = ("a", "a/b", "a/b/c")
    states = [{"x", *chosen} for n in range(4) for chosen in itertools.combinations(movable, n)]
    unrelated = set()
    for marked in _every_change(states):
        _mark(own, marked)
        own.publish()
        with own.open() as repository:
            catalogs = _catalogs(repository)
            assert look_through(repository) == look(os.fsencode(own.tree))
        assert {path.decode().lstrip("/") for path in catalogs} == marked
        for path, (_, above) in catalogs.items():
            inner = [other for other in catalogs if path.startswith(other + b"/")]
            assert above == max(inner, key=len, default=b"")
        unrelated.add(catalogs[b"/x"][0])
        assert own.check(integrity=False) == []
    assert len(unrelated) == 1


def _remove(tree, path):
    place = tree / path
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def _replace_by_file(tree, path):
    _remove(tree, path)
    (tree / path).write_text("now a file")


def _replace_by_directory(tree, path):
    _remove(tree, path)
    (tree / path).mkdir()
    (tree / path / MARKER).touch()


@pytest.mark.parametrize(
    ("marked", "edit", "left"),
    [
        ({"a"}, lambda tree: _remove(tree, "a"), set()),
        ({"a/b", "a/b/c", "a/b/c/d"}, lambda tree: _remove(tree, "a"), set()),
        ({"a", "a/b", "a/b/c"}, lambda tree: _remove(tree, "a/b"), {"a"}),
        ({"a", "a/b", "a/b/c"}, lambda tree: _remove(tree, "a/b/c"), {"a", "a/b"}),
        ({"a/b", "a/b/c"}, lambda tree: _replace_by_file(tree, "a"), set()),
        ({"a", "a/b", "a/b/c"}, lambda tree: _replace_by_file(tree, "a/b"), {"a"}),
        ({"a/b", "a/b/c"}, lambda tree: _replace_by_directory(tree, "a/b"), {"a/b"}),
        ({"a/b/c"}, lambda tree: _replace_by_directory(tree, "a/b"), {"a/b"}),
        ({"a", "a/b/c"}, lambda tree: (tree / "a/b").rename(tree / "x/moved"), {"a", "x/moved/c"}),
        ({"a", "a/b", "x"}, lambda tree: (tree / "a/b").rename(tree / "x/moved"), {"a", "x", "x/moved"}),
        ({"a", "x"}, lambda tree: (tree / f"a/{MARKER}").rename(tree / f"a/b/{MARKER}"), {"a/b", "x"}),
        ({"a/b"}, lambda tree: (tree / f"a/b/{MARKER}").rename(tree / f"a/{MARKER}"), {"a"}),
        ({"a", "x"}, lambda tree: [_remove(tree, "a"), (tree / "x").rename(tree / "a")], {"a"}),
        ({"a", "a/b", "x"}, lambda tree: [_remove(tree, name) for name in ("a", "x")], set()),
    ],
    ids=range(14),
)
def test_a_change_and_its_undoing(  # noqa: PLR0917
    own, look, look_through, tmp_path, marked, edit, left
):
    _mark(own, marked)
    own.publish(tag="before")
    shutil.copytree(own.tree, tmp_path / "kept", symlinks=True)
    edit(own.tree)
    for tree, expected in ((own.tree, left), (tmp_path / "kept", marked)):
        own.publish(tree)
        with own.open() as repository:
            assert _names(look_through(repository)) == _names(look(os.fsencode(tree)))
            assert {path.decode().lstrip("/") for path in _catalogs(repository)} == expected
        assert own.check(integrity=False) == []


def _names(tree):
    return {path: (seen.mode, seen.content) for path, seen in tree.items()}


def test_only_catalogs_on_the_way_to_a_change_are_new(own):
    _mark(own, {"a", "a/b", "a/b/c", "x"})
    own.publish()
    with own.open() as repository:
        before = _catalogs(repository)
    (own.tree / "a/b/file").write_text("changed")
    own.publish()
    with own.open() as repository:
        after = _catalogs(repository)
    assert {path for path in after if after[path] != before[path]} == {b"/a", b"/a/b"}


def _database(own, content):
    database = sqlite3.connect(":memory:")
    database.deserialize(zlib.decompress((own.storage / content.path).read_bytes()))
    return database


def test_versions_and_predecessors(own):
    """A nested catalog counts its own versions and names its own predecessor."""
    _mark(own, {"a/b"})
    own.publish()
    first = own.manifest().root_catalog
    with own.open() as repository:
        (nested,) = repository.tree.root().nested()
    for change in ("one", "two"):
        (own.tree / "a/b/file").write_text(change)
        own.publish()
        with own.open() as repository:
            (now,) = repository.tree.root().nested()
            catalog = repository.tree.catalog_at(b"/a/b")
            assert catalog.previous_revision == nested.content
            assert repository.tree.root().previous_revision == first
            first, nested = own.manifest().root_catalog, now
    assert catalog.revision == 3
    assert own.manifest().revision == 4


def test_the_root_entry_stays_row_one(own):
    for mode in (0o700, 0o755):
        own.tree.chmod(mode)
        own.publish()
        database = _database(own, own.manifest().root_catalog)
        rows = database.execute("SELECT rowid, mode & 4095 FROM catalog WHERE name = ''").fetchall()
        database.close()
        assert rows == [(1, mode)]


def test_a_dissolved_catalog_takes_its_group_numbers_along_anew(own):
    """Numbers are unique in a catalog: those of two catalogs may be equal before they become one."""
    os.link(own.tree / "a/file", own.tree / "a/link")
    _mark(own, {"a/b/c"})
    own.publish()
    _mark(own, set())
    own.publish()
    with own.open() as repository:
        groups = {path: repository.lookup(path).hardlink_group for path in ("/a/file", "/a/link", "/a/b/c/file")}
    assert groups["/a/file"] == groups["/a/link"] != groups["/a/b/c/file"] != 0


def test_a_failed_build_leaves_nothing_open(own, monkeypatch):
    _mark(own, {"a", "a/b"})
    own.publish()
    (own.tree / "a/b/file").write_text("changed")
    (own.tree / "gone").write_text("x")
    monkeypatch.setattr("cvfs_server.catalogs.edit.CatalogEdit.set_property", _raise)
    with pytest.raises(KeyError):
        own.publish()
    monkeypatch.undo()
    assert os.listdir(f"{own.settings.spool}/tmp") == []
    descriptors = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert not [place for place in descriptors if own.settings.spool in place and "(deleted)" not in place]
    own.publish()
    assert own.check() == []


def _raise(*_):
    raise KeyError


def _is_open(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")
