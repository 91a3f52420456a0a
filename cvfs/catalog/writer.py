"""One catalog file being written: rows, counters, properties; never compresses or stores it.

A new file has the newest schema; an older one is brought up to it first. The counters of a finished catalog are recomputed
from its rows, so they cannot drift. Source: FORMAT sections 5.2 to 5.13.
"""

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import astuple

from cvfs.catalog.reader import NestedCatalog
from cvfs.catalog.schema import (
    COUNT_ENTRIES,
    COUNTER_NAMES,
    CREATE_TABLES,
    NO_PREDECESSOR,
    SCHEMA,
    SCHEMA_REVISION,
    UPGRADES,
    Counters,
)
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.hashes import ContentHash, parent_path, path_hash

_COLUMNS = (
    "md5path_1, md5path_2, parent_1, parent_2, name, mode, size, mtime, mtimens, uid, gid, hardlinks, hash, flags, "
    "symlink, xattr"
)
# Names and targets are raw bytes stored as text: a bound blob is cast, not transcoded (section 5.1).
_VALUES = "?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?"
_INSERT = f"INSERT INTO catalog ({_COLUMNS}) VALUES ({_VALUES})"
# An update in place keeps the rowid: the root entry must stay row 1 (section 5.12).
_UPDATE = (
    "UPDATE catalog SET mode = ?, size = ?, mtime = ?, mtimens = ?, uid = ?, gid = ?, hardlinks = ?, hash = ?, flags = ?, "
    "symlink = CAST(? AS TEXT), xattr = ? WHERE md5path_1 = ? AND md5path_2 = ?"
)
_PAGE_SIZE = 4096
_FREE_SHARE_WORTH_A_VACUUM = 0.2


class CatalogWriter:
    """An open catalog file under construction, inside one transaction. Used by one thread."""

    def __init__(self, path: str, connection: sqlite3.Connection, mountpoint: bytes) -> None:
        self.path = path
        self.mountpoint = mountpoint
        self._connection = connection

    @classmethod
    def create(cls, path: str, mountpoint: bytes, root: DirectoryEntry) -> "CatalogWriter":
        """A new catalog whose first row is `root`: name, flags and path follow from the mountpoint."""
        connection = _connect(path)
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        connection.execute("BEGIN")
        for statement in CREATE_TABLES:
            connection.execute(statement)
        writer = cls(path, connection, mountpoint)
        writer.set_property("schema", SCHEMA)
        writer.set_property("schema_revision", str(SCHEMA_REVISION))
        if mountpoint:
            writer.set_property("root_prefix", mountpoint.decode("utf-8", "surrogateescape"))
        writer.insert(mountpoint, root)
        return writer

    @classmethod
    def open(cls, path: str, mountpoint: bytes) -> "CatalogWriter":
        """An existing catalog file that this writer may change; upgraded to the newest schema."""
        connection = _connect(path)
        try:
            connection.execute("BEGIN")
            _upgrade(connection)
        except sqlite3.Error as error:
            connection.close()
            raise FormatError(f"catalog at {mountpoint!r} cannot be written: {error}") from error
        return cls(path, connection, mountpoint)

    def insert(self, path: bytes, entry: DirectoryEntry, chunks: Iterable[Chunk] = ()) -> None:
        """A row for a path that has none."""
        self.insert_many([(path, entry, tuple(chunks))])

    def insert_many(self, rows: Iterable[tuple[bytes, DirectoryEntry, tuple[Chunk, ...]]]) -> None:
        """Rows for paths that have none, in one go."""
        pieces: list[tuple[object, ...]] = []
        values = []
        for path, entry, chunks in rows:
            own = path_hash(path)
            # The root of the repository has no parent, not even the empty path (section 5.3).
            values.append((*own, *(path_hash(parent_path(path)) if path else (0, 0)), *entry))
            pieces += [(*own, *chunk) for chunk in chunks]
        self._connection.executemany(_INSERT, values)
        if pieces:
            self._connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", pieces)

    def update(self, path: bytes, entry: DirectoryEntry, chunks: Iterable[Chunk] = ()) -> None:
        """New contents for an existing row. Raises FormatError if there is none."""
        own = path_hash(path)
        if self._connection.execute(_UPDATE, (*entry[1:], *own)).rowcount != 1:
            raise FormatError(f"catalog at {self.mountpoint!r} has no row for {path!r}")
        self._connection.execute("DELETE FROM chunks WHERE md5path_1 = ? AND md5path_2 = ?", own)
        self._connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", [(*own, *c) for c in chunks])

    def remove(self, path: bytes) -> None:
        """Forget one row and its chunks, if it is there."""
        for table in ("chunks", "catalog"):
            self._connection.execute(f"DELETE FROM {table} WHERE md5path_1 = ? AND md5path_2 = ?", path_hash(path))

    def set_nested(self, path: bytes, content: ContentHash, size: int) -> None:
        """Register a nested catalog, or its new hash and file size."""
        query = "INSERT OR REPLACE INTO nested_catalogs (path, sha1, size) VALUES (CAST(? AS TEXT), ?, ?)"
        self._connection.execute(query, (path, str(content), size))

    def set_bind(self, nested: NestedCatalog) -> None:
        """Register a bind mountpoint."""
        query = "INSERT OR REPLACE INTO bind_mountpoints (path, sha1, size) VALUES (CAST(? AS TEXT), ?, ?)"
        self._connection.execute(query, (nested.path, str(nested.content), nested.size))

    def remove_nested(self, path: bytes) -> None:
        """Forget a nested catalog or a bind mountpoint."""
        for table in ("nested_catalogs", "bind_mountpoints"):
            self._connection.execute(f"DELETE FROM {table} WHERE path = CAST(? AS TEXT)", (path,))

    def set_property(self, key: str, value: str) -> None:
        """Set one property, as text. Bytes that are no UTF-8 come in as surrogate escapes."""
        query = "INSERT OR REPLACE INTO properties (key, value) VALUES (?, CAST(? AS TEXT))"
        self._connection.execute(query, (key, value.encode("utf-8", "surrogateescape")))

    def highest_group(self) -> int:
        """The largest hard-link group number in use, 0 if none."""
        return int(self._connection.execute("SELECT MAX(hardlinks >> 32) FROM catalog").fetchone()[0] or 0)

    def finish(self, revision: int, now: int, previous: ContentHash | None, below: Counters) -> Counters:
        """Write version and counters, compact if it pays, close; returns what this catalog contains itself.

        `below` is the sum over all catalogs beneath; `now` are Unix seconds.
        """
        self.set_property("revision", str(revision))
        self.set_property("last_modified", str(now))
        # The repository's very first root has no predecessor; a new nested catalog has forty zeros (section 5.8).
        if previous or self.mountpoint:
            self.set_property("previous_revision", str(previous) if previous else NO_PREDECESSOR)
        own = self._count()
        self._write_counters(own, below)
        self._connection.execute("COMMIT")
        if self._free_share() > _FREE_SHARE_WORTH_A_VACUUM:
            self._connection.execute("VACUUM")
        self._connection.close()
        return own

    def abandon(self) -> None:
        """Close without finishing; the file is of no use afterwards."""
        self._connection.close()

    def _count(self) -> Counters:
        return Counters(*(int(value or 0) for value in self._connection.execute(COUNT_ENTRIES).fetchone()))

    def _write_counters(self, own: Counters, below: Counters) -> None:
        rows = [(f"self_{name}", value) for name, value in zip(COUNTER_NAMES, astuple(own), strict=True)]
        rows += [(f"subtree_{name}", value) for name, value in zip(COUNTER_NAMES, astuple(below), strict=True)]
        self._connection.executemany("INSERT OR REPLACE INTO statistics (counter, value) VALUES (?, ?)", rows)

    def _free_share(self) -> float:
        free, pages = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count")
        )
        return float(free / max(1, pages))


def _connect(path: str) -> sqlite3.Connection:
    # The file is private until it is finished: no journal, no lock and no flush is needed, a crash discards it.
    connection = sqlite3.connect(os.path.abspath(path), isolation_level=None)
    connection.execute("PRAGMA journal_mode = MEMORY")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    properties = dict(
        connection.execute("SELECT key, value FROM properties WHERE key IN ('schema', 'schema_revision')")
    )
    if str(properties.get("schema")) != SCHEMA:
        raise FormatError(f"a catalog of schema {properties.get('schema', '1.0')} cannot be changed: publish anew")
    revision = int(properties.get("schema_revision", 0))
    for step in range(revision, SCHEMA_REVISION):
        for statement in UPGRADES[step]:
            connection.execute(statement)
    query = "INSERT OR REPLACE INTO properties (key, value) VALUES ('schema_revision', ?)"
    connection.execute(query, (str(SCHEMA_REVISION),))
