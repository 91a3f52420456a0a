"""One catalog file being written: rows, counters, properties; never compresses or stores it.

A new file has the newest schema; an older one is brought up to it first. The counters of a finished catalog are recomputed
from its rows, so they cannot drift. Source: FORMAT sections 5.2 to 5.13.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from cvfs.catalog.database import DEFINITIONS, SQLITE_ERRORS, check_definitions, check_header
from cvfs.catalog.reader import NestedCatalog
from cvfs.catalog.schema import (
    COUNT_ENTRIES,
    COUNT_REFERENCES,
    COUNT_UNUSUAL,
    COUNTER_NAMES,
    CREATE_TABLES,
    NO_PREDECESSOR,
    SCHEMA,
    SCHEMA_REVISION,
    SET_SPECIAL_FLAG,
    UPGRADES,
    Counters,
    Version,
    own_counters,
)
from cvfs.errors import CvfsError, FormatError, StoreFull
from cvfs.format.dirent import Chunk, DirectoryEntry, Flag
from cvfs.hashes import ContentHash, path_hash

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
# The file is private until it is finished: no journal, no lock and no flush is needed, a crash discards it.
_PRAGMAS = (
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA trusted_schema = OFF",
)
# What a directory's row says about its place in the tree of catalogs.
_PLACE_FLAGS = Flag.NESTED_MOUNTPOINT | Flag.BIND_MOUNTPOINT | Flag.NESTED_ROOT


class CatalogWriter:
    """An open catalog file under construction, inside one transaction. Used by one thread.

    Whatever SQLite refuses comes out as FormatError, a full disk as StoreFull.
    """

    def __init__(self, path: str, connection: sqlite3.Connection, mountpoint: bytes) -> None:
        self.path = path
        self.mountpoint = mountpoint
        self._connection = connection

    @classmethod
    def create(cls, path: str, mountpoint: bytes, root: DirectoryEntry) -> "CatalogWriter":
        """A new catalog whose first row is `root`: its name and the flags of its place follow from the mountpoint."""
        writer = cls(path, _connect(path), mountpoint)
        try:
            writer._start(root)
        except CvfsError:
            writer.abandon()
            raise
        return writer

    @classmethod
    def open(cls, path: str, mountpoint: bytes) -> "CatalogWriter":
        """An existing catalog file that this writer may change; upgraded to the newest schema.

        Raises FormatError for a file that is no catalog, that belongs elsewhere, or whose schema cannot be upgraded.
        """
        try:
            with open(path, "rb") as file:
                check_header(file.read(100))
        except OSError as error:
            raise FormatError(f"catalog file {path} cannot be read: {error.strerror}") from error
        writer = cls(path, _connect(path), mountpoint)
        try:
            writer._resume()
        except CvfsError:
            writer.abandon()
            raise
        return writer

    def insert(self, path: bytes, entry: DirectoryEntry, chunks: Iterable[Chunk] = ()) -> None:
        """A row for a path that has none."""
        self.insert_many([(path, entry, tuple(chunks))])

    def insert_many(self, rows: Iterable[tuple[bytes, DirectoryEntry, tuple[Chunk, ...]]]) -> None:
        """Rows for paths that have none, in one go."""
        pieces: list[tuple[object, ...]] = []
        values = []
        # The root of the repository has no parent, not even the empty path (section 5.3).
        parents = {b"/": (0, 0)}
        for path, entry, chunks in rows:
            own, above = path_hash(path), path.rpartition(b"/")[0] if path else b"/"
            if above not in parents:
                parents[above] = path_hash(above)
            values.append((*own, *parents[above], *entry))
            pieces += [(*own, *chunk) for chunk in chunks]
        self._insert(_INSERT, values)
        if pieces:
            self._insert("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", pieces)

    def update(self, path: bytes, entry: DirectoryEntry, chunks: Iterable[Chunk] = ()) -> None:
        """New contents for an existing row. Raises FormatError if there is none."""
        own = path_hash(path)
        if self._execute(_UPDATE, (*entry[1:], *own)).rowcount != 1:
            raise FormatError(f"catalog at {self.mountpoint!r} has no row for {path!r}")
        self._execute("DELETE FROM chunks WHERE md5path_1 = ? AND md5path_2 = ?", own)
        self._insert("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", [(*own, *c) for c in chunks])

    def remove(self, path: bytes) -> None:
        """Forget one row and its chunks, if it is there."""
        for table in ("chunks", "catalog"):
            self._execute(f"DELETE FROM {table} WHERE md5path_1 = ? AND md5path_2 = ?", path_hash(path))

    def set_nested(self, path: bytes, content: ContentHash, size: int) -> None:
        """Register a nested catalog, or its new hash and file size."""
        query = "INSERT OR REPLACE INTO nested_catalogs (path, sha1, size) VALUES (CAST(? AS TEXT), ?, ?)"
        self._execute(query, (path, str(content), size))

    def set_bind(self, nested: NestedCatalog) -> None:
        """Register a bind mountpoint."""
        query = "INSERT OR REPLACE INTO bind_mountpoints (path, sha1, size) VALUES (CAST(? AS TEXT), ?, ?)"
        self._execute(query, (nested.path, str(nested.content), nested.size))

    def remove_nested(self, path: bytes) -> None:
        """Forget a nested catalog or a bind mountpoint."""
        for table in ("nested_catalogs", "bind_mountpoints"):
            self._execute(f"DELETE FROM {table} WHERE path = CAST(? AS TEXT)", (path,))

    def set_property(self, key: str, value: str) -> None:
        """Set one property, as text. Bytes that are no UTF-8 come in as surrogate escapes."""
        query = "INSERT OR REPLACE INTO properties (key, value) VALUES (?, CAST(? AS TEXT))"
        self._execute(query, (key, value.encode("utf-8", "surrogateescape")))

    def highest_group(self) -> int:
        """The largest hard-link group number in use, 0 if none."""
        return int(self._rows("SELECT MAX(hardlinks >> 32) FROM catalog")[0][0] or 0)

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
        self._execute("COMMIT")
        if self._free_share() > _FREE_SHARE_WORTH_A_VACUUM:
            self._execute("VACUUM")
        self._connection.close()
        return own

    def abandon(self) -> None:
        """Close without finishing; the file is of no use afterwards."""
        self._connection.close()

    def _start(self, root: DirectoryEntry) -> None:
        for statement in (f"PRAGMA page_size = {_PAGE_SIZE}", *_PRAGMAS, "BEGIN", *CREATE_TABLES):
            self._execute(statement)
        self.set_property("schema", SCHEMA)
        self.set_property("schema_revision", str(SCHEMA_REVISION))
        if self.mountpoint:
            self.set_property("root_prefix", self.mountpoint.decode("utf-8", "surrogateescape"))
        self.insert(self.mountpoint, _root_row(self.mountpoint, root))

    def _resume(self) -> None:
        for statement in _PRAGMAS:
            self._execute(statement)
        check_definitions(self._rows(DEFINITIONS))
        rows = self._rows("SELECT CAST(key AS TEXT), CAST(value AS BLOB) FROM properties")
        properties: dict[str, bytes] = {key: value or b"" for key, value in rows}
        root_prefix = properties.get("root_prefix", b"")
        if root_prefix != self.mountpoint:
            raise FormatError(f"a catalog for {root_prefix!r} was found at {self.mountpoint!r}")
        self._execute("BEGIN")
        self._upgrade(_upgradable(properties))

    def _upgrade(self, old: Version) -> None:
        if old.revision == SCHEMA_REVISION:
            return
        for step in range(old.revision, SCHEMA_REVISION):
            for statement in UPGRADES[step]:
                self._execute(statement)
        self._execute(f"UPDATE catalog SET flags = flags & {old.flag_mask} WHERE flags & ~{old.flag_mask} <> 0")
        self._execute(SET_SPECIAL_FLAG)
        self.set_property("schema_revision", str(SCHEMA_REVISION))

    def _execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except SQLITE_ERRORS as error:
            raise self._refused(error) from error

    def _rows(self, query: str) -> list[Any]:
        try:
            return self._connection.execute(query).fetchall()
        except SQLITE_ERRORS as error:
            raise self._refused(error) from error

    def _insert(self, statement: str, rows: Iterable[Any]) -> None:
        try:
            self._connection.executemany(statement, rows)
        except SQLITE_ERRORS as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> CvfsError:
        kind = StoreFull if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL else FormatError
        return kind(f"catalog at {self.mountpoint!r} cannot be written to {self.path}: {error}")

    def _count(self) -> Counters:
        entries, references = self._rows(COUNT_ENTRIES)[0], self._rows(COUNT_REFERENCES)[0]
        return own_counters(entries, self._rows(COUNT_UNUSUAL), references)

    def _write_counters(self, own: Counters, below: Counters) -> None:
        rows = [(f"self_{name}", value) for name, value in zip(COUNTER_NAMES, own.values(), strict=True)]
        rows += [(f"subtree_{name}", value) for name, value in zip(COUNTER_NAMES, below.values(), strict=True)]
        self._insert("INSERT OR REPLACE INTO statistics (counter, value) VALUES (?, ?)", rows)

    def _free_share(self) -> float:
        free, pages = (self._rows(f"PRAGMA {name}")[0][0] for name in ("freelist_count", "page_count"))
        return float(free / max(1, pages))


def _connect(path: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(os.path.abspath(path), isolation_level=None)
    except SQLITE_ERRORS as error:
        raise StoreFull(f"catalog file {path} cannot be made: {error}") from error


def _root_row(mountpoint: bytes, root: DirectoryEntry) -> DirectoryEntry:
    flags = root.flags & ~_PLACE_FLAGS | (Flag.NESTED_ROOT if mountpoint else 0)
    return root._replace(name=mountpoint.rpartition(b"/")[2], flags=int(flags))


def _upgradable(properties: dict[str, bytes]) -> Version:
    """The version of a catalog that can be brought up to the newest one."""
    try:
        version = Version(float(properties.get("schema", b"1.0")), int(properties.get("schema_revision", b"0")))
    except ValueError as error:
        raise FormatError(f"catalog with an unreadable schema number: {error}") from error
    if version.schema != float(SCHEMA) or not 0 <= version.revision <= SCHEMA_REVISION:
        raise FormatError(
            f"a catalog of schema {version.schema} revision {version.revision} cannot be changed: publish anew"
        )
    return version
