"""One catalog file, opened read-only; never fetches, never follows a nested catalog.

Whatever a catalog says is signed, but still foreign: types, ranges and names are checked before a row is handed out.
Source: FORMAT sections 5.1 to 5.11, appendix B.
"""

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from cvfs.catalog.database import ForeignDatabase
from cvfs.catalog.schema import COUNTER_NAMES, DEFAULT_TTL, Counters, Version
from cvfs.errors import FormatError
from cvfs.format.dirent import Chunk, DirectoryEntry
from cvfs.hashes import ContentHash, ObjectKind, path_hash

# Longer names cannot be shown: the kernel takes them for a broken answer.
_LONGEST_NAME = 1024
# Among names that are joined, with slashes around: what is empty, "." or ".." is none.
_BAD_NAME = re.compile(rb"\0|/\.{0,2}/")
_BELOW = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[^/\0]+)+")
_LARGEST = 2**63 - 1
# Columns of a row that are numbers, with the kind of array whose range makes sense (no number of SQLite's exceeds 2^63 - 1):
# mode, size, time of modification (also before 1970), user, group, hard links, flags.
_NUMBERS = ((1, "H"), (2, "Q"), (3, "q"), (5, "I"), (6, "I"), (7, "Q"), (9, "Q"))
_NAME, _MTIME_NS, _DIGEST, _SYMLINK, _XATTR = 0, 4, 8, 10, 11
_NANOSECONDS = 10**9
_ROWS_AT_ONCE = 4096
_Key = tuple[int, int]
# As DirectoryEntry._make, which counts the columns each time; the queries here have as many as it has fields.
_entry_of: Callable[[tuple[Any, ...]], DirectoryEntry] = partial(tuple.__new__, DirectoryEntry)


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


class _Layout(NamedTuple):
    """How this catalog is asked, which depends on its schema."""

    entry: str
    nested: str | None
    bind: bool


class Catalog:
    """The rows of one catalog file. Safe to use from several threads."""

    def __init__(
        self, database: ForeignDatabase, mountpoint: bytes, properties: dict[str, str], layout: _Layout
    ) -> None:
        self._database = database
        self._query = database.query
        self._layout = layout
        self._find = f"SELECT {layout.entry} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"
        self._list = f"SELECT {layout.entry} FROM catalog WHERE parent_1 = ? AND parent_2 = ?"
        self.mountpoint = mountpoint
        self.properties = properties
        self.root_prefix = properties.get("root_prefix", "").encode("utf-8", "surrogateescape")
        self.version = _version(properties)

    @classmethod
    def open(cls, path: str, mountpoint: bytes = b"", root_prefix: bytes | None = None) -> "Catalog":
        """The catalog in the file `path`, attached at `mountpoint`. Raises FormatError for a file that is none.

        `root_prefix` is the path that the catalog has to claim, by default its mountpoint (FORMAT section 5.10).
        """
        database = ForeignDatabase.open(path, f"the catalog at {mountpoint.decode(errors='replace') or '/'}")
        try:
            properties = _properties(database)
            version = _version(properties)
            version.check_readable()
            catalog = cls(database, mountpoint, properties, _layout(database, version))
            catalog.check_place(mountpoint if root_prefix is None else root_prefix)
        except FormatError:
            database.close()
            raise
        return catalog

    def close(self) -> None:
        self._database.close()

    @property
    def file_size(self) -> int:
        """Bytes of the catalog's file."""
        return self._database.size

    def content(self) -> bytes:
        """The catalog's file. Raises FormatError if it is damaged."""
        return self._database.content()

    def check_place(self, root_prefix: bytes) -> None:
        """Raises FormatError if the catalog believes to be anywhere else."""
        if self.root_prefix != root_prefix:
            raise FormatError(f"a catalog for {self.root_prefix!r} was found at {self.mountpoint!r}")

    def check_numbers(self) -> None:
        """Raises FormatError if a number among the properties is none: of use to nobody who follows this catalog."""
        for key in ("revision", "last_modified", "TTL"):
            _number(self.properties, key, 0)

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
        rows = [DirectoryEntry._make(row) for row in self._query(self._find, path_hash(self._key(path)))]
        # The root row's name is not checked: it is empty, and whatever else it says is ignored (section 5.12).
        _check_rows(rows, names=path != self.mountpoint)
        return rows[0] if rows else None

    def listing(self, path: bytes) -> list[DirectoryEntry]:
        """All rows of a directory, hidden ones included, in no particular but a stable order."""
        rows = list(map(_entry_of, self._query(self._list, path_hash(self._key(path)))))
        _check_rows(rows)
        return rows

    def chunks(self, path: bytes) -> list[Chunk]:
        """The pieces of a chunked file in order. The caller checks that they are complete."""
        if self.version.is_ancient:
            return []
        query = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset"
        chunks = [Chunk(*row) for row in self._query(query, path_hash(self._key(path)))]
        _check_chunks(chunks)
        return chunks

    def nested(self) -> list[NestedCatalog]:
        """Nested catalogs and bind mountpoints registered here, by their absolute paths as presented."""
        if self._layout.nested is None:
            raise FormatError("a catalog of schema 0.9 cannot name its nested catalogs")
        found = [self._nested(row, bind=False) for row in self._query(self._layout.nested)]
        if self._layout.bind:
            rows = self._query("SELECT path, sha1, size FROM bind_mountpoints")
            found += [self._nested(row, bind=True) for row in rows]
        return found

    def counters(self) -> tuple[Counters, Counters]:
        """What this catalog contains itself, and what the catalogs below it contain; zeros where nothing is recorded."""
        values = self._statistics()
        own = Counters(*(values.get(f"self_{name}", 0) for name in COUNTER_NAMES))
        below = Counters(*(values.get(f"subtree_{name}", 0) for name in COUNTER_NAMES))
        return own, below

    def missing_counters(self) -> list[str]:
        """Counters that are demanded and absent: the original refuses to mount such a catalog (section 5.9)."""
        names = self._statistics()
        wanted = [f"{scope}_{name}" for scope in ("self", "subtree") for name in COUNTER_NAMES]
        return [name for name in wanted if name not in names]

    def holds(self, condition: str) -> bool:
        """Whether any row meets a condition in SQL on the columns of the format."""
        return bool(self._query(f"SELECT 1 FROM catalog WHERE {condition} LIMIT 1"))

    def rows(self) -> Iterator[tuple[_Key, _Key, DirectoryEntry]]:
        """Every row with the hashes of its path and its parent's path; for check, diff and garbage collection."""
        for page in self._pages():
            _check_keys(page, 1, 5)
            entries = [DirectoryEntry._make(row[5:]) for row in page]
            own = path_hash(self.root_prefix)
            _check_rows(entries, names=False)
            _check_rows([entry for entry, row in zip(entries, page, strict=True) if row[1:3] != own])
            yield from (((row[1], row[2]), (row[3], row[4]), entry) for row, entry in zip(page, entries, strict=True))

    def plain_rows(self) -> Iterator[list[tuple[Any, ...]]]:
        """Every row, path hashes first, page by page and unchecked: good for nothing but to be compared with others."""
        for page in self._pages():
            yield [row[1:] for row in page]

    def _pages(self) -> Iterator[list[Any]]:
        """Every row with its number and the hashes of its path and its parent's path, unchecked."""
        query = (
            f"SELECT rowid, md5path_1, md5path_2, parent_1, parent_2, {self._layout.entry} FROM catalog "
            f"WHERE rowid > ? ORDER BY rowid LIMIT {_ROWS_AT_ONCE}"
        )
        last = -_LARGEST
        while page := self._query(query, (last,)):
            last = _advanced(last, [row[0] for row in page])
            yield page

    def parents(self) -> dict[_Key, _Key]:
        """For directories and chunked files the hash of the path to that of the directory they are in."""
        query = (
            "SELECT md5path_1, md5path_2, parent_1, parent_2 FROM catalog "
            "WHERE (mode & 61440) = 16384 OR (flags & 64) <> 0"
        )
        page = self._query(query)
        _check_keys(page, 0, 4)
        return {(row[0], row[1]): (row[2], row[3]) for row in page}

    def chunk_rows(self) -> Iterator[tuple[_Key, Chunk]]:
        """Every row of the chunk table with the hash of its file's path, files together and in order of offset."""
        if self.version.is_ancient:
            return
        query = (
            "SELECT md5path_1, md5path_2, offset, size, hash FROM chunks WHERE (md5path_1, md5path_2, offset, size) > "
            f"(?, ?, ?, ?) ORDER BY md5path_1, md5path_2, offset, size LIMIT {_ROWS_AT_ONCE}"
        )
        last = (-_LARGEST - 1, -_LARGEST - 1, -1, -1)
        while page := self._query(query, last):
            _check_keys(page, 0, 4)
            last = _advanced(last, [row[:4] for row in page])
            chunks = [Chunk(*row[2:]) for row in page]
            _check_chunks(chunks)
            yield from (((row[0], row[1]), chunk) for row, chunk in zip(page, chunks, strict=True))

    def _key(self, path: bytes) -> bytes:
        return self.root_prefix + path[len(self.mountpoint) :]

    def _nested(self, row: tuple[Any, ...], *, bind: bool) -> NestedCatalog:
        path, text, size = row
        if type(path) is not bytes or type(text) is not bytes:
            raise FormatError("a nested catalog with columns of the wrong type")
        below = path[len(self.root_prefix) :]
        if not path.startswith(self.root_prefix) or not _BELOW.fullmatch(below):
            raise FormatError(f"nested catalog {path!r} lies outside of its parent {self.root_prefix!r}")
        content = ContentHash.parse(text.decode("ascii", "replace"), ObjectKind.CATALOG)
        size = size if type(size) is int and size > 0 else 0
        return NestedCatalog(self.mountpoint + below, content, size, b"" if bind else path)

    def _statistics(self) -> dict[str, int]:
        if self.version.is_ancient:
            return {}
        rows = self._query("SELECT counter, value FROM statistics")
        if any(type(name) is not bytes or type(value) is not int for name, value in rows):
            raise FormatError("a catalog whose statistics are no numbers")
        return {name.decode("ascii", "replace"): value for name, value in rows}


def _properties(database: ForeignDatabase) -> dict[str, str]:
    # Values may be numbers in catalogs that other tools wrote; the mountpoint's path may be any bytes.
    rows = database.query("SELECT CAST(key AS TEXT), CAST(value AS TEXT) FROM properties WHERE key IS NOT NULL")
    return {key.decode(errors="replace"): (value or b"").decode("utf-8", "surrogateescape") for key, value in rows}


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


def _layout(database: ForeignDatabase, version: Version) -> _Layout:
    nested = database.columns("nested_catalogs")
    size = "size" if b"size" in nested else "0"
    query = f"SELECT path, sha1, {size} FROM nested_catalogs" if b"sha1" in nested else None
    bind = not version.is_ancient and b"bind_mountpoints" in database.tables
    return _Layout(_select_columns(database.columns("catalog"), version), query, bind)


def _select_columns(present: frozenset[bytes], version: Version) -> str:
    """The columns of DirectoryEntry by name: upgraded catalogs carry them in another order (section 5.2)."""
    absent = {"mtimens": "NULL", "xattr": "NULL", "uid": "0", "gid": "0", "hardlinks": "1"}
    wanted = [
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
    ]
    columns = [name if name.encode() in present else absent.get(name, name) for name in wanted]
    # The operator & would turn a text into a harmless 0; so a flag that is no number comes out as NULL and is refused.
    columns[wanted.index("flags")] = f"CASE typeof(flags) WHEN 'integer' THEN flags & {version.flag_mask} END"
    return ", ".join(columns)


def _check_rows(rows: list[DirectoryEntry], *, names: bool = True) -> None:
    if not rows:
        return
    columns = list(zip(*rows, strict=True))
    _check_numbers(columns)
    try:
        joined, targets = b"/".join(columns[_NAME]), b"".join(columns[_SYMLINK])
    except TypeError:
        raise FormatError("a catalog row without a name or link target") from None
    if b"\0" in targets:
        raise FormatError("a catalog row without a name or link target")
    if set(map(type, columns[_DIGEST] + columns[_XATTR])) - {bytes, type(None)}:
        raise FormatError("a catalog row with a hash or attributes of the wrong type")
    if names:
        _check_names(columns[_NAME], joined)


def _check_numbers(columns: list[tuple[Any, ...]]) -> None:
    """An array takes nothing but whole numbers of its range: the fastest way to look at each."""
    try:
        for index, kind in _NUMBERS:
            array(kind, columns[index])
        nanoseconds = array("I", [number for number in columns[_MTIME_NS] if number is not None])
    except (TypeError, OverflowError):
        raise FormatError("a catalog row with a number that makes no sense") from None
    if nanoseconds and max(nanoseconds) >= _NANOSECONDS:
        raise FormatError("a catalog row with a number that makes no sense")


def _check_names(names: tuple[bytes, ...], joined: bytes) -> None:
    if (
        joined.count(b"/") != len(names) - 1
        or _BAD_NAME.search(b"/%b/" % joined)
        or max(map(len, names)) > _LONGEST_NAME
    ):
        raise FormatError("a catalog row with an impossible name")


def _check_chunks(chunks: list[Chunk]) -> None:
    if not all(type(c.offset) is int and type(c.size) is int and type(c.digest) is bytes for c in chunks):
        raise FormatError("a chunk with columns of the wrong type")


def _check_keys(page: list[Any], start: int, end: int) -> None:
    if {type(value) for row in page for value in row[start:end]} - {int}:
        raise FormatError("a catalog row whose path hash is no number")


def _advanced(last: Any, keys: list[Any]) -> Any:
    """The last key of a page. Pages of a damaged file may come in a circle: keys have to grow."""
    if not all(a < b for a, b in zip([last, *keys], keys, strict=False)):
        raise FormatError("a catalog whose rows are out of order")
    return keys[-1]
