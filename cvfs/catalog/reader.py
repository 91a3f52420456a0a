"""One catalog file, opened read-only; never fetches, never follows a nested catalog.

Whatever a catalog says is signed, but still foreign: the file may hold no views, triggers or virtual tables, column types and
names are checked before a row is handed out. Source: FORMAT sections 5.1 to 5.11, appendix B.
"""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cvfs.catalog.schema import COUNTER_NAMES, DEFAULT_TTL, Counters, Version
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.hashes import ContentHash, ObjectKind, path_hash

_SQLITE_MAGIC = b"SQLite format 3\0"
_PAGE_CACHE_KIB = 1024
_BAD_NAME = re.compile(rb"[/\0]|\A\.{0,2}\Z")
# Columns of a row that must be integers; mtime_ns may be None as well, and is checked where it is used.
_INTEGERS = (1, 2, 3, 5, 6, 7, 9)


@dataclass(frozen=True, slots=True)
class NestedCatalog:
    """A mountpoint below a catalog: absolute path as presented, hash, size of the file in bytes (0 = unknown).

    `root_prefix` is where the catalog itself believes to be: the same path, except below a bind mountpoint, which shows
    a complete root catalog elsewhere.
    """

    path: bytes
    content: ContentHash
    size: int
    root_prefix: bytes


class Catalog:
    """The rows of one catalog file. Safe to use from several threads."""

    def __init__(self, connection: sqlite3.Connection, mountpoint: bytes, properties: dict[str, str]) -> None:
        self._connection = connection
        self.mountpoint = mountpoint
        self.properties = properties
        self.root_prefix = properties.get("root_prefix", "").encode()
        self.version = _version(properties)
        self._columns = _select_columns(connection, self.version)
        self._find = f"SELECT {self._columns} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
        self._list = f"SELECT {self._columns} FROM catalog WHERE parent_1 = ? AND parent_2 = ?"

    @classmethod
    def open(cls, path: str, mountpoint: bytes = b"", root_prefix: bytes | None = None) -> "Catalog":
        """The catalog in the file `path`, attached at `mountpoint`. Raises FormatError for a file that is none.

        `root_prefix` is the path that the catalog has to claim, by default its mountpoint (FORMAT section 5.10).
        """
        _check_header(path)
        connection = _connect(path)
        try:
            _refuse_programs(connection)
            properties = _properties(connection)
            _version(properties).check_readable()
            catalog = cls(connection, mountpoint, properties)
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            connection.close()
            raise FormatError(f"not a catalog: {error}") from error
        except FormatError:
            connection.close()
            raise
        if catalog.root_prefix != (mountpoint if root_prefix is None else root_prefix):
            connection.close()
            raise FormatError(f"catalog for {catalog.root_prefix!r} found at {mountpoint!r}")
        return catalog

    def close(self) -> None:
        self._connection.close()

    @property
    def revision(self) -> int:
        return _number(self.properties, "revision", 0)

    @property
    def last_modified(self) -> int:
        return _number(self.properties, "last_modified", 0)

    @property
    def ttl(self) -> int:
        """Seconds between two checks for a new revision."""
        return _number(self.properties, "TTL", DEFAULT_TTL)

    @property
    def previous_revision(self) -> ContentHash | None:
        """Root hash of this catalog's predecessor."""
        text = self.properties.get("previous_revision", "")
        return ContentHash.parse(text, ObjectKind.CATALOG) if text.strip("0") else None

    def find(self, path: bytes) -> DirectoryEntry | None:
        """The row of a path that belongs to this catalog, or None. Raises FormatError for a row that makes no sense."""
        rows = self._rows(self._find, path_hash(self._key(path)))
        if not rows:
            return None
        # The root row's name is not checked: it is empty, and whatever else it says is ignored (section 5.12).
        _check_rows(rows, names=path != self.mountpoint)
        return rows[0]

    def listing(self, path: bytes) -> list[DirectoryEntry]:
        """All rows of a directory, hidden ones included, in a stable order."""
        rows = self._rows(self._list, path_hash(self._key(path)))
        _check_rows(rows)
        return rows

    def chunks(self, path: bytes) -> list[Chunk]:
        """The pieces of a chunked file in order. The caller checks that they are complete."""
        if self.version.is_ancient:
            return []
        query = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset"
        chunks = [Chunk(*row) for row in self._query(query, path_hash(self._key(path)))]
        if not all(type(c.offset) is int and type(c.size) is int and type(c.digest) is bytes for c in chunks):
            raise FormatError(f"{path!r}: a chunk with columns of the wrong type")
        return chunks

    def nested(self) -> list[NestedCatalog]:
        """Nested catalogs and bind mountpoints registered here, by their absolute paths as presented."""
        found = [
            self._nested(row, bind=False)
            for row in self._query(f"SELECT {self._nested_columns()} FROM nested_catalogs")
        ]
        if not self.version.is_ancient and self._has_table("bind_mountpoints"):
            rows = self._query("SELECT path, sha1, size FROM bind_mountpoints")
            found += [self._nested(row, bind=True) for row in rows]
        return found

    def counters(self) -> tuple[Counters, Counters]:
        """What this catalog contains itself, and what the catalogs below it contain."""
        if self.version.is_ancient:
            return Counters(), Counters()
        values = {key.decode(): value for key, value in self._query("SELECT counter, value FROM statistics")}
        own = Counters(*(int(values.get(f"self_{name}", 0)) for name in COUNTER_NAMES))
        below = Counters(*(int(values.get(f"subtree_{name}", 0)) for name in COUNTER_NAMES))
        return own, below

    def missing_counters(self) -> list[str]:
        """Counters that are demanded and absent: the original refuses to mount such a catalog (section 5.9)."""
        names = {key.decode() for (key,) in self._query("SELECT counter FROM statistics")}
        return [
            f"{scope}_{name}"
            for scope in ("self", "subtree")
            for name in COUNTER_NAMES
            if f"{scope}_{name}" not in names
        ]

    def rows(self) -> Iterator[tuple[tuple[int, int], tuple[int, int], DirectoryEntry]]:
        """Every row with the hashes of its path and its parent's path; for check, diff and garbage collection."""
        query = f"SELECT md5path_1, md5path_2, parent_1, parent_2, {self._columns} FROM catalog"
        for row in self._query(query):
            yield (row[0], row[1]), (row[2], row[3]), DirectoryEntry(*row[4:])

    def chunk_rows(self) -> Iterator[tuple[tuple[int, int], Chunk]]:
        """Every row of the chunk table with the hash of its file's path, files together and in order of offset."""
        if not self.version.is_ancient:
            query = "SELECT md5path_1, md5path_2, offset, size, hash FROM chunks ORDER BY md5path_1, md5path_2, offset"
            for row in self._query(query):
                yield (row[0], row[1]), Chunk(*row[2:])

    def _key(self, path: bytes) -> bytes:
        return self.root_prefix + path[len(self.mountpoint) :]

    def _query(self, query: str, arguments: tuple[int, ...] = ()) -> list[Any]:
        try:
            return self._connection.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise FormatError(f"catalog at {self.mountpoint!r} is damaged: {error}") from error

    def _rows(self, query: str, arguments: tuple[int, int]) -> list[DirectoryEntry]:
        return list(map(DirectoryEntry._make, self._query(query, arguments)))

    def _nested_columns(self) -> str:
        columns = _columns_of(self._connection, "nested_catalogs")
        if "sha1" not in columns:
            raise FormatError("a catalog of schema 0.9 cannot name its nested catalogs")
        return "path, sha1, " + ("size" if "size" in columns else "0")

    def _nested(self, row: tuple[Any, ...], *, bind: bool) -> NestedCatalog:
        path, text, size = row
        if type(path) is not bytes or type(text) is not bytes:
            raise FormatError("a nested catalog with columns of the wrong type")
        presented = self.mountpoint + path[len(self.root_prefix) :]
        if not path.startswith(self.root_prefix + b"/") or b"\0" in path:
            raise FormatError(f"nested catalog {path!r} lies outside of its parent {self.root_prefix!r}")
        content = ContentHash.parse(text.decode("ascii", "replace"), ObjectKind.CATALOG)
        return NestedCatalog(presented, content, size if type(size) is int and size > 0 else 0, b"" if bind else path)

    def _has_table(self, name: str) -> bool:
        return bool(self._query(f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{name}'"))


def _check_header(path: str) -> None:
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except OSError as error:
        raise FormatError(f"catalog file {path} cannot be read: {error.strerror}") from error
    # A file marked WAL would make SQLite look for a log beside it (section 5.1).
    if not header.startswith(_SQLITE_MAGIC) or header[18:20] != b"\1\1":
        raise FormatError("not a SQLite file in rollback journal mode")


def _connect(path: str) -> sqlite3.Connection:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(
        f"file:{quoted}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = bytes
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA cache_size = -{_PAGE_CACHE_KIB}")
    return connection


def _refuse_programs(connection: sqlite3.Connection) -> None:
    """Views, triggers and virtual tables could make a plain query run without end."""
    query = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
    if connection.execute(query).fetchone():
        raise FormatError("a catalog may hold nothing but tables and indexes")


def _properties(connection: sqlite3.Connection) -> dict[str, str]:
    query = "SELECT CAST(key AS TEXT), CAST(value AS TEXT) FROM properties"
    return {key.decode(): (value or b"").decode() for key, value in connection.execute(query)}


def _version(properties: dict[str, str]) -> Version:
    try:
        return Version(float(properties.get("schema", "1.0")), int(properties.get("schema_revision", "0")))
    except ValueError as error:
        raise FormatError(f"catalog with an unreadable schema number: {error}") from error


def _number(properties: dict[str, str], key: str, default: int) -> int:
    try:
        return int(properties.get(key, default))
    except ValueError as error:
        raise FormatError(f"catalog property {key} is not a number") from error


def _columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})")}


def _select_columns(connection: sqlite3.Connection, version: Version) -> str:
    """The columns of DirectoryEntry by name: upgraded catalogs carry them in another order (section 5.2)."""
    present = _columns_of(connection, "catalog")
    absent = {"mtimens": "NULL", "xattr": "NULL", "uid": "0", "gid": "0", "hardlinks": "1"}
    wanted = (
        "name",
        "mode",
        "size",
        "mtime",
        "mtimens",
        "uid",
        "gid",
        "hardlinks",
        "hash",
        "flags",
        "symlink",
        "xattr",
    )
    columns = [name if name in present else absent.get(name, name) for name in wanted]
    columns[wanted.index("flags")] = f"flags & {version.flag_mask}"
    return ", ".join(columns)


def _check_rows(rows: list[DirectoryEntry], *, names: bool = True) -> None:
    columns = list(zip(*rows, strict=True))
    if not columns:
        return
    if any(set(map(type, columns[index])) != {int} for index in _INTEGERS):
        raise FormatError("a catalog row with columns of the wrong type")
    if set(map(type, columns[0])) != {bytes} or set(map(type, columns[10])) - {bytes}:
        raise FormatError("a catalog row without a name or link target")
    if names and any(map(_BAD_NAME.search, columns[0])):
        raise FormatError("a catalog row with an impossible name")
