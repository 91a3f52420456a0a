"""Schema of a catalog: tables, versions, counters; knows SQL, opens nothing. Source: FORMAT sections 5.1 to 5.11."""

import operator
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from cvfs.errors import FormatError

SCHEMA = "2.5"
SCHEMA_REVISION = 7
DEFAULT_TTL = 240
NO_PREDECESSOR = "0" * 40

CREATE_TABLES = (
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key))",
    "CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER, "
    "hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT, "
    "uid INTEGER, gid INTEGER, xattr BLOB, CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2))",
    "CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2)",
    "CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB, "
    "CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size), "
    "FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog(md5path_1, md5path_2))",
    "CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, "
    "CONSTRAINT pk_nested_catalogs PRIMARY KEY (path))",
    "CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, "
    "CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path))",
    "CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter))",
)

# What brings an older 2.5 catalog one revision up; the counters are filled in when it is finished (section 5.11).
UPGRADES: dict[int, tuple[str, ...]] = {
    0: ("ALTER TABLE nested_catalogs ADD size INTEGER",),
    1: ("ALTER TABLE catalog ADD xattr BLOB",),
    2: (),
    3: (
        "CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, "
        "CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path))",
    ),
    4: (),
    5: (),
    6: ("ALTER TABLE catalog ADD mtimens INTEGER",),
}

# Older catalogs may say of a special file only that it is no directory (section 5.4).
SET_SPECIAL_FLAG = "UPDATE catalog SET flags = flags | 16 WHERE (mode & 61440) NOT IN (32768, 40960, 16384)"

# Bits of `flags` that already meant something in schema 1.x and at each revision of 2.5; others are noise there.
_ANCIENT_FLAGS = 0x2F
_OLDEST_FLAGS = 0x6F | 0x700
_FLAG_HISTORY = ((3, 0x80 | 0x3800), (4, 0xC000), (5, 0x10), (6, 0x10000))


@dataclass(frozen=True, slots=True)
class Version:
    """Schema number and revision of a catalog file."""

    schema: float
    revision: int

    def check_readable(self) -> None:
        """Raises FormatError for the schemas that nobody reads (section 5.11)."""
        if not (0.9 <= self.schema < 2.0 or 2.4 - 1e-9 <= self.schema <= 2.5 + 1e-9):
            raise FormatError(f"catalog schema {self.schema} is not supported")

    @property
    def is_ancient(self) -> bool:
        """Schema 1.x: no owners, link counts, attributes, chunks or statistics."""
        return self.schema < 2.0

    @property
    def flag_mask(self) -> int:
        """The bits of `flags` that have a meaning."""
        if self.is_ancient:
            return _ANCIENT_FLAGS
        mask = _OLDEST_FLAGS
        for revision, bits in _FLAG_HISTORY:
            if self.revision >= revision:
                mask |= bits
        return mask


@dataclass(frozen=True, slots=True)
class Counters:
    """What a catalog, or a subtree of catalogs, contains (section 5.9); sizes in bytes."""

    regular: int = 0
    symlink: int = 0
    special: int = 0
    dir: int = 0
    nested: int = 0
    chunked: int = 0
    chunks: int = 0
    file_size: int = 0
    chunked_size: int = 0
    xattr: int = 0
    external: int = 0
    external_file_size: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(*map(operator.add, self.values(), other.values()))

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(*map(operator.sub, self.values(), other.values()))

    def values(self) -> tuple[int, ...]:
        """All counters, in the order of `COUNTER_NAMES`."""
        return _VALUES(self)

    @property
    def entries(self) -> int:
        """Directory entries of every type."""
        return self.regular + self.symlink + self.special + self.dir


COUNTER_NAMES = tuple(field.name for field in fields(Counters))
# Ten times faster than `astuple`, which copies deeply.
_VALUES: Callable[[Counters], tuple[int, ...]] = operator.attrgetter(*COUNTER_NAMES)

# What a catalog contains itself, by its rows: the few that are no plain regular files one kind at a time, the rest by
# subtraction. A third of what one query for all counters takes.
COUNT_ENTRIES = "SELECT COUNT(*), SUM(CASE WHEN (mode & 61440) = 32768 THEN size END), COUNT(xattr) FROM catalog"
COUNT_UNUSUAL = (
    "SELECT mode & 61440, flags & 192, COUNT(*), SUM(CASE WHEN (flags & 192) <> 0 THEN size END) FROM catalog "
    "WHERE (mode & 61440) IS NOT 32768 OR (flags & 192) <> 0 GROUP BY 1, 2"
)
COUNT_REFERENCES = "SELECT (SELECT COUNT(*) FROM nested_catalogs), (SELECT COUNT(*) FROM chunks)"
_REGULAR, _CHUNKED, _EXTERNAL = stat.S_IFREG, 64, 128
_NAMES = {stat.S_IFLNK: "symlink", stat.S_IFDIR: "dir"}


def own_counters(
    entries: Sequence[int | None], unusual: Iterable[Sequence[int | None]], references: Sequence[int]
) -> Counters:
    """What a catalog contains itself, out of the rows of the three queries above."""
    count: dict[str, int] = defaultdict(int)
    count["regular"], count["file_size"], count["xattr"] = (value or 0 for value in entries)
    for kind, flags, rows, size in unusual:
        rows, size, flags = rows or 0, size or 0, flags or 0  # noqa: PLW2901
        if kind != _REGULAR:
            count["regular"] -= rows
            count[_NAMES.get(kind or 0, "special")] += rows
        if flags & _CHUNKED:
            count["chunked"] += rows
            count["chunked_size"] += size
        if flags & _EXTERNAL:
            count["external"] += rows
            count["external_file_size"] += size
    return Counters(nested=references[0], chunks=references[1], **count)
