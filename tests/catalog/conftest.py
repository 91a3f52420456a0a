"""Catalogs for the tests of this package: those of the original tools, and ones made by hand."""

import itertools
import sqlite3
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cvfs.catalog.reader import Catalog, NestedCatalog
from cvfs.catalog.tree import CatalogTree
from cvfs.compression import Compression
from cvfs.format.dirent import DirectoryEntry, content_flags, type_flags
from cvfs.hashes import Algorithm, ContentHash, ObjectKind, parent_path, path_hash

_DIR = 0o040755
FIXTURES = ("tiny.example.org", "tiny-shake128.example.org")


class StorageSource:
    """A source of catalogs over a repository's storage directory, that remembers what it was asked for."""

    def __init__(self, storage: Path, scratch: Path) -> None:
        self.storage = storage
        self.scratch = scratch
        self.asked: list[tuple[bytes, bool]] = []

    def file(self, content: ContentHash) -> Path:
        file = self.scratch / content.name
        if not file.exists():
            # Several threads may come for one file: each writes its own, and it appears whole.
            part = file.with_name(f"{file.name}.{threading.get_ident()}")
            part.write_bytes(zlib.decompress((self.storage / content.path).read_bytes()))
            part.rename(file)
        return file

    def open_catalog(self, nested: NestedCatalog, *, wait: bool) -> Catalog:
        self.asked.append((nested.path, wait))
        return Catalog.open(str(self.file(nested.content)), nested.path, nested.root_prefix)

    def renew(self, nested: NestedCatalog) -> None:
        self.file(nested.content).unlink()


class MemorySource:
    """A source of catalogs that were made by hand. What is not in `present` has to be waited for."""

    def __init__(self, files: dict[ContentHash, Path]) -> None:
        self.files = files
        self.present: set[ContentHash] = set(files)
        self.asked: list[tuple[bytes, bool]] = []

    def open_catalog(self, nested: NestedCatalog, *, wait: bool) -> Catalog:
        self.asked.append((nested.path, wait))
        if not wait and nested.content not in self.present:
            raise BlockingIOError
        return Catalog.open(str(self.files[nested.content]), nested.path, nested.root_prefix)

    def renew(self, nested: NestedCatalog) -> None:
        """What was made by hand cannot be made again."""


@pytest.fixture(scope="session")
def published(fixture_repository, tmp_path_factory) -> Callable[[str, str], CatalogTree]:
    """The tree of a fixture's tag, over a source in its attribute `_source`."""

    def tree(fqrn: str, tag: str, limit: int = 128) -> CatalogTree:
        repository = fixture_repository(fqrn)
        lines = (repository.root / "tags.txt").read_text().splitlines()
        fields = next(line.split() for line in lines if line.startswith(f"{tag} ") and len(line.split()[1]) >= 40)
        source = StorageSource(repository.storage, tmp_path_factory.mktemp("catalogs"))
        return CatalogTree(ContentHash.parse(fields[1], ObjectKind.CATALOG), int(fields[2]), source, limit)

    return tree


@pytest.fixture(scope="session")
def catalog_files(fixture_repository, tmp_path_factory) -> list[Path]:
    """Every catalog file of every fixture, inflated."""
    scratch = tmp_path_factory.mktemp("all-catalogs")
    found = []
    for fqrn in FIXTURES:
        for stored in sorted((fixture_repository(fqrn).storage / "data").glob("??/*C")):
            found.append(scratch / f"{fqrn}-{stored.parent.name}{stored.name}")
            found[-1].write_bytes(zlib.decompress(stored.read_bytes()))
    return found


def entry(name: bytes, mode: int = 0o100644, **changes) -> DirectoryEntry:
    """A plausible row."""
    flags = type_flags(mode) | (content_flags(Algorithm.SHA1, Compression.ZLIB) if mode >> 12 == 0o10 else 0)
    digest = b"\x07" * 20 if mode >> 12 == 0o10 else None
    row = DirectoryEntry(name, mode, 3, 1700000000, 5, 1000, 100, 1, digest, int(flags))
    return row._replace(**changes)


@pytest.fixture(name="entry")
def entry_fixture() -> Callable[..., DirectoryEntry]:
    return entry


# A catalog of each age by hand, independent of the writer: columns as they were then, in the order of an upgrade.
ANCIENT = """
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, inode INTEGER, hash BLOB,
  size INTEGER, mode INTEGER, mtime INTEGER, flags INTEGER, name TEXT, symlink TEXT,
  CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_inode ON catalog (inode);
"""
CURRENT = """
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER,
  hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, flags INTEGER, name TEXT, symlink TEXT, uid INTEGER, gid INTEGER,
  CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
  CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
"""


class HandMade:
    """A catalog written with plain SQL: any schema, any nonsense."""

    def __init__(self, path: Path, schema: str | float | None, revision: int | None = None, *, page_size=4096) -> None:
        self.path = path
        self.ancient = schema is None or float(schema) < 2
        self.sql = sqlite3.connect(path, isolation_level=None)
        self.sql.executescript(
            f"PRAGMA page_size = {page_size}; PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY"
        )
        self.sql.execute("CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_p PRIMARY KEY (key))")
        self.sql.executescript(ANCIENT if self.ancient else CURRENT)
        self._later_columns(schema, 0 if revision is None else revision)
        for key, value in (("schema", schema), ("schema_revision", revision)):
            if value is not None:
                self.property(key, value)

    def _later_columns(self, schema, revision: int) -> None:
        sha1 = "" if schema == "0.9" else ", sha1 TEXT"
        size = ", size INTEGER" if revision >= 1 else ""
        self.sql.execute(f"CREATE TABLE nested_catalogs (path TEXT{sha1}{size}, CONSTRAINT pk_n PRIMARY KEY (path))")
        if revision >= 2:
            self.sql.execute("ALTER TABLE catalog ADD xattr BLOB")
        if revision >= 4:
            self.sql.execute("CREATE TABLE bind_mountpoints (path TEXT PRIMARY KEY, sha1 TEXT, size INTEGER)")
        if revision >= 7:
            self.sql.execute("ALTER TABLE catalog ADD mtimens INTEGER")

    def property(self, key: str, value) -> "HandMade":
        self.sql.execute("INSERT OR REPLACE INTO properties VALUES (?, ?)", (key, value))
        return self

    def row(self, path: bytes, row: DirectoryEntry, **columns) -> "HandMade":
        present = [info[1] for info in self.sql.execute("PRAGMA table_info(catalog)")]
        parent = path_hash(parent_path(path)) if path else (0, 0)
        values = dict(zip(("md5path_1", "md5path_2", "parent_1", "parent_2"), (*path_hash(path), *parent), strict=True))
        values |= {"inode": 5, "hardlinks": row.hardlinks, "hash": row.digest, "size": row.size, "mode": row.mode}
        values |= {"mtime": row.mtime, "mtimens": row.mtime_ns, "flags": row.flags, "uid": row.uid, "gid": row.gid}
        values |= {"name": row.name, "symlink": row.symlink, "xattr": row.xattr} | columns
        chosen = [name for name in present if name in values]
        marks = ", ".join(
            "CAST(? AS TEXT)" if n in ("name", "symlink") and type(values[n]) is bytes else "?" for n in chosen
        )
        self.sql.execute(f"INSERT INTO catalog ({', '.join(chosen)}) VALUES ({marks})", [values[n] for n in chosen])
        return self

    def done(self) -> Path:
        self.sql.close()
        return self.path


@pytest.fixture
def hand_made(tmp_path) -> Callable[..., HandMade]:
    """Starts a catalog written with plain SQL."""
    numbers = itertools.count()

    def make(schema="2.5", revision=7, **options) -> HandMade:
        return HandMade(tmp_path / f"hand{next(numbers)}.db", schema, revision, **options)

    return make


@pytest.fixture
def small(hand_made, entry):
    """A root with one file, ready for more."""

    def make(schema="2.5", revision=7, **options):
        catalog = hand_made(schema, revision, **options)
        catalog.row(b"", entry(b"", 0o040755))
        return catalog.row(b"/a", entry(b"a", flags=0x1FFFF & ~0x3F00))

    return make


@pytest.fixture
def memory_source() -> type[MemorySource]:
    return MemorySource


@pytest.fixture
def tree(hand_made, memory_source, entry) -> Callable[..., CatalogTree]:
    """A tree of {mountpoint: [(path, row or columns …)]}; catalogs of equal numbers have equal hashes."""

    def make(catalogs: dict[bytes, tuple[int, dict]], chunks=()) -> CatalogTree:
        files, root = {}, catalogs[b""][0]
        for mountpoint, (number, rows) in catalogs.items():
            made = hand_made()
            if mountpoint:
                made.property("root_prefix", mountpoint.decode())
            made.row(mountpoint, entry(mountpoint.rpartition(b"/")[2], _DIR, flags=0x21 if mountpoint else 1))
            for path, row in rows.items():
                made.row(path, row._replace(name=path.rpartition(b"/")[2]))
            for path, chunk in chunks:
                made.sql.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", (*path_hash(path), *chunk))
            for other, (below, _) in catalogs.items():
                if other and parent_path(other) == mountpoint:
                    made.sql.execute(
                        "INSERT INTO nested_catalogs VALUES (?, ?, 0)", (other.decode(), str(_digest(below)))
                    )
            files[_digest(number)] = made.done()
        return CatalogTree(_digest(root), 0, memory_source(files))

    return make


def _digest(number: int) -> ContentHash:
    return ContentHash(Algorithm.SHA1, bytes([number] * 20), ObjectKind.CATALOG)
