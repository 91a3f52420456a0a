"""The trees of the original's repositories published again: catalog by catalog, row by row, object by object the same.

The catalogs are looked at with SQLite itself, and nothing of cvfs in between.
"""

import dataclasses
import os
import shutil
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cvfs.client.repository import Repository
from cvfs_server.publication import PublishOptions
from cvfs_server.settings import load_settings
from cvfs_server.site import Site
from cvfs_server.ways.tree import TreeOptions
from cvfs_server.ways.tree import publish_tree as publish

FIXTURES = ["tiny.example.org", "tiny-shake128.example.org"]
TAGS = ["s1", "s2", "s3", "s4", "s5"]
_GENERATED = b"/versions/"
_FROM_MKFS = (b"", b"new_repository")

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


class Catalogs:
    """All catalogs below a root hash, by mountpoint, as open databases."""

    def __init__(self, storage: Path, root: str) -> None:
        self.storage = storage
        self.by_mountpoint = dict(self._load(b"", root))

    def _load(self, mountpoint: bytes, named: str) -> Iterator[tuple[bytes, sqlite3.Connection]]:
        database = sqlite3.connect(":memory:")
        database.text_factory = bytes
        database.deserialize(zlib.decompress(self.object(named, "C")))
        yield mountpoint, database
        for path, nested in database.execute("SELECT path, sha1 FROM nested_catalogs"):
            yield from self._load(path, nested.decode())

    def object(self, named: str, letter: str = "") -> bytes:
        return (self.storage / "data" / named[:2] / f"{named[2:]}{letter}").read_bytes()

    def close(self) -> None:
        for database in self.by_mountpoint.values():
            database.close()


def _rows(database: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    cursor = database.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _entries(database: sqlite3.Connection, mountpoint: bytes) -> dict[tuple[int, int], dict[str, Any]]:
    rows = _rows(database, "SELECT * FROM catalog ORDER BY md5path_1, md5path_2")
    groups: dict[int, int] = {}
    for row in rows:
        group, links = divmod(row["hardlinks"], 2**32)
        # Numbers of groups are free: what counts is who is together.
        row["hardlinks"] = (groups.setdefault(group, len(groups) + 1) if group else 0, links)
        if stat.S_ISDIR(row["mode"]):
            # What a directory occupies on the publisher's disk.
            row["size"] = None
        if row["name"] == b".cvmfscatalog" and mountpoint.startswith(_GENERATED):
            # Made while it was published.
            row["mtime"] = row["mtimens"] = None
        if row["name"] in _FROM_MKFS:
            # The original never looked at these again: a fraction that was unknown when they were made stays so.
            row["mtimens"] = row["mtimens"] or 0
    return {(row["md5path_1"], row["md5path_2"]): row for row in rows}


def _properties(database: sqlite3.Connection) -> dict[bytes, bytes]:
    return dict(database.execute("SELECT key, value FROM properties"))


def _compare_catalog(mountpoint: bytes, ours: sqlite3.Connection, theirs: sqlite3.Connection) -> None:
    mine, original = _entries(ours, mountpoint), _entries(theirs, mountpoint)
    assert mine.keys() == original.keys(), mountpoint
    for key, row in original.items():
        assert mine[key] == row, (mountpoint, row["name"])
    for query in (
        "SELECT * FROM chunks ORDER BY md5path_1, md5path_2, offset",
        "SELECT path FROM nested_catalogs ORDER BY path",
        "SELECT path FROM bind_mountpoints ORDER BY path",
        "SELECT * FROM statistics ORDER BY counter",
        "SELECT name, typeof(name), typeof(symlink), typeof(hash), typeof(xattr), typeof(mtimens) FROM catalog WHERE name "
        "NOT IN ('', 'new_repository') "
        "ORDER BY md5path_1, md5path_2",
        "SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
    ):
        assert _rows(ours, query) == _rows(theirs, query), (mountpoint, query)


def _compare_properties(mountpoint: bytes, ours: sqlite3.Connection, theirs: sqlite3.Connection) -> None:
    mine, original = _properties(ours), _properties(theirs)
    assert mine.keys() == original.keys()
    if mountpoint:
        # The original writes nested catalogs again that have not changed: their numbers are ahead of ours.
        assert int(mine.pop(b"revision")) <= int(original.pop(b"revision"))
    for moment in (b"last_modified", b"previous_revision"):
        del mine[moment], original[moment]
    assert mine == original


def _compare_objects(ours: Catalogs, theirs: Catalogs) -> int:
    """Contents are the very same objects: both compress alike, and cut alike."""
    compared = 0
    for database in theirs.by_mountpoint.values():
        tag = "-shake128" if "shake128" in str(theirs.storage) else ""
        named = [(digest, "") for (digest,) in database.execute("SELECT hash FROM catalog WHERE hash IS NOT NULL")]
        named += [(digest, "P") for (digest,) in database.execute("SELECT hash FROM chunks")]
        for digest, letter in set(named):
            name = digest.hex() + tag
            assert ours.object(name, letter) == theirs.object(name, letter)
            compared += 1
    return compared


@pytest.mark.parametrize("fqrn", FIXTURES)
def test_publishing_the_originals_trees_gives_the_originals_catalogs(
    fqrn, fixture_repository, new_repository, rebuild, tmp_path
):
    fixture = fixture_repository(fqrn)
    own = new_repository(fqrn, **_settings_of(fixture, tmp_path))
    for number, tag in enumerate(TAGS, 2):
        with _opened(fixture, tag) as original:
            rebuild(fixture.manifests[tag], original, own.tree)
            root = str(original.revision.root_hash)
        report = own.publish(tag=tag)
        assert report.revision == number
        ours, theirs = Catalogs(own.storage, report.root_hash), Catalogs(fixture.storage, root)
        with closing(ours), closing(theirs):
            _compare(ours, theirs)
            assert _compare_objects(ours, theirs) > 150


@pytest.mark.parametrize("fqrn", FIXTURES)
def test_a_repository_of_the_original_is_published_further(fqrn, fixture_repository, rebuild, tmp_path):
    fixture = fixture_repository(fqrn)
    site = _take_over(fixture, tmp_path)
    tree = tmp_path / "tree"
    tree.mkdir()
    kinds: list[str] = []
    # First what is published already, then the first revision's tree again.
    for tag in ("s5", "s1"):
        with _opened(fixture, tag) as original:
            rebuild(fixture.manifests[tag], original, tree)
            root = str(original.revision.root_hash)
        options = PublishOptions(report=lambda kind, _path: kinds.append(kind))
        report = publish(site, fqrn, os.fsencode(tree), options, TreeOptions(trust_mtime=True))
        if tag == "s5":
            # Two time stamps have a fraction now, hence a file of 55 bytes is read, and two markers are dated anew.
            assert {*kinds} <= {"tou"}
            assert report.bytes_in <= 55
            assert len(kinds) <= 4
        ours, theirs = Catalogs(Path(site.storage(fqrn)), report.root_hash), Catalogs(fixture.storage, root)
        with closing(ours), closing(theirs):
            _compare(ours, theirs, revisions=False)


def _compare(ours: Catalogs, theirs: Catalogs, *, revisions: bool = True) -> None:
    assert ours.by_mountpoint.keys() == theirs.by_mountpoint.keys()
    for mountpoint, database in theirs.by_mountpoint.items():
        _compare_catalog(mountpoint, ours.by_mountpoint[mountpoint], database)
        if revisions:
            _compare_properties(mountpoint, ours.by_mountpoint[mountpoint], database)


def _take_over(fixture, tmp_path: Path) -> Site:
    """The fixture as a repository of a publishing machine."""
    site = Site(str(tmp_path / "site"))
    shutil.copytree(fixture.storage, site.storage(fixture.fqrn))
    shutil.copytree(fixture.private, site.keys)
    shutil.copy(fixture.root / "keys" / f"{fixture.fqrn}.crt", site.keys)
    place = Path(site.configuration(fixture.fqrn))
    place.parent.mkdir(parents=True)
    text = (fixture.root / "server.conf").read_text()
    for original, own in (("/srv/cvmfs", site.web_root), ("/var/spool/cvmfs", f"{tmp_path}/spool")):
        text = text.replace(original, own)
    place.write_text(text)
    return site


def _opened(fixture, tag: str) -> Repository:
    return Repository.open(f"file://{fixture.storage}", fixture.public_key, tag=tag)


def _settings_of(fixture, tmp_path: Path) -> dict[str, Any]:
    """What the original's server.conf says, as cvfs reads it; all but the places."""
    site = Site(str(tmp_path / "original"))
    place = Path(site.configuration(fixture.fqrn))
    place.parent.mkdir(parents=True)
    shutil.copy(fixture.root / "server.conf", place)
    settings = load_settings(site, fixture.fqrn)
    kept = {field.name for field in dataclasses.fields(settings)} - {"fqrn", "storage", "spool", "url"}
    return {name: getattr(settings, name) for name in kept}
