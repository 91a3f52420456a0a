"""What publishing and garbage collection did, one row each in a SQLite file of the spool area; it measures nothing itself.

Nobody depends on it: a file that cannot be written is a warning in the log, never the end of a publish. Tables, columns and
places are those of the original. Source: FORMAT section 8.5.
"""

import contextlib
import dataclasses
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from cvfs.errors import FormatError, NotFound, StoreFull, UsageError
from cvfs_server.founding.ownership import give_to_directory_owner
from cvfs_server.settings import RepositorySettings

_log = logging.getLogger(__name__)

SCHEMA, SCHEMA_REVISION = "1.0", 4
TABLES = ("publish_statistics", "gc_statistics", "properties")
# Two publishers may end at the same moment; writing a row takes milliseconds.
_PATIENCE = 10


@dataclass(frozen=True, slots=True)
class PublishNumbers:
    """What a publish did. Sizes in bytes: of contents, and as stored; `sz_bytes_uploaded` leaves catalogs out."""

    revision: int = 0
    files_added: int = 0
    files_removed: int = 0
    files_changed: int = 0
    chunks_added: int = 0
    chunks_duplicated: int = 0
    catalogs_added: int = 0
    directories_added: int = 0
    directories_removed: int = 0
    directories_changed: int = 0
    symlinks_added: int = 0
    symlinks_removed: int = 0
    symlinks_changed: int = 0
    sz_bytes_added: int = 0
    sz_bytes_removed: int = 0
    sz_bytes_uploaded: int = 0
    sz_catalog_bytes_uploaded: int = 0


@dataclass(frozen=True, slots=True)
class GcNumbers:
    """What a garbage collection did. `sz_condemned_bytes` is None where nobody added the sizes up."""

    n_preserved_catalogs: int = 0
    n_condemned_catalogs: int = 0
    n_condemned_objects: int = 0
    sz_condemned_bytes: int | None = None
    n_duplicate_delete_requests: int = 0


class Table(NamedTuple):
    """A table's rows, and the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def record_publish(
    settings: RepositorySettings, numbers: PublishNumbers, started: float, *, success: bool = True
) -> None:
    """Write down a publish that began at the Unix time `started` and has just ended."""
    _record(settings, "publish_statistics", dataclasses.asdict(numbers), started, success=success)


def record_gc(settings: RepositorySettings, numbers: GcNumbers, started: float, *, success: bool = True) -> None:
    """Write down a garbage collection that began at the Unix time `started` and has just ended."""
    _record(settings, "gc_statistics", dataclasses.asdict(numbers), started, success=success)


def printed(numbers: PublishNumbers | GcNumbers) -> list[str]:
    """The numbers as lines, for `CVMFS_PRINT_STATISTICS`."""
    return [f"{name}|{'' if value is None else value}" for name, value in dataclasses.asdict(numbers).items()]


def place(settings: RepositorySettings) -> str:
    """The file of a repository."""
    return settings.statistics_db or f"{settings.spool}/stats.db"


def read_table(path: str, name: str) -> Table:
    """All rows of one of TABLES. Raises NotFound if there is no file yet, UsageError for another table, FormatError."""
    if name not in TABLES:
        raise UsageError(f"{name!r} is no table of a statistics database: {', '.join(TABLES)}")
    with _reading(path) as connection:
        return _table(connection, name)


def merge(first: str, second: str, output: str) -> None:
    """Make the new file `output` hold the rows of both: the first one's, then the second's under new numbers.

    Raises UsageError if they are of different repositories or `output` is there, NotFound, FormatError, StoreFull.
    """
    properties, other = (dict(read_table(path, "properties").rows) for path in (first, second))
    for key in ("repo_name", "schema"):
        if properties.get(key) != other.get(key):
            raise UsageError(f"{first} and {second} differ in {key}: {properties.get(key)} and {other.get(key)}")
    if os.path.exists(output):
        raise UsageError(f"{output} is there already: choose another name with -o, or remove it")
    fqrn = str(properties.get("repo_name", ""))
    parts = [_newest_form(path, fqrn) for path in (first, second)]
    with _writing(output, fqrn) as connection:
        for part in parts:
            for name, table in part.items():
                _insert(connection, name, table)


def _newest_form(path: str, fqrn: str) -> dict[str, Table]:
    """The rows of a file that may be of an older revision, which it stays."""
    with _reading(path) as source, contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        source.backup(copy)
        _prepare(copy, path, fqrn)
        return {name: _table(copy, name) for name in TABLES[:2]}


def _table(connection: sqlite3.Connection, name: str) -> Table:
    cursor = connection.execute(f"SELECT * FROM {name}")
    return Table(tuple(column[0] for column in cursor.description), cursor.fetchall())


def _insert(connection: sqlite3.Connection, name: str, table: Table) -> None:
    """The rows as they are but for their numbers, which come first."""
    columns = table.columns[1:]
    marks = ", ".join("?" * len(columns))
    connection.executemany(
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", [row[1:] for row in table.rows]
    )


def _record(settings: RepositorySettings, name: str, numbers: dict[str, Any], started: float, *, success: bool) -> None:
    row = {"start_time": _text(started), "finish_time": _text(time.time()), **numbers, "success": int(success)}
    try:
        with _writing(place(settings), settings.fqrn) as connection:
            _insert(connection, name, Table(("", *row), [("", *row.values())]))
            _forget_old(connection, settings.statistics_days)
    except (FormatError, StoreFull, UsageError) as error:
        _log.warning("%s: no statistics were written: %s", settings.fqrn, error)


def _forget_old(connection: sqlite3.Connection, days: int) -> None:
    if not days:
        return
    for name in TABLES[:2]:
        query = f"DELETE FROM {name} WHERE julianday('now', 'start of day') - julianday(start_time) > ?"
        connection.execute(query, (days,))


def _text(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))


@contextlib.contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    if not os.path.exists(path):
        raise NotFound(f"{path}: no statistics have been written yet")
    try:
        address = f"file://{quote(os.path.abspath(path))}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, timeout=_PATIENCE, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise FormatError(f"{path}: no statistics database that can be read: {error}") from error


@contextlib.contextmanager
def _writing(path: str, fqrn: str) -> Iterator[sqlite3.Connection]:
    """One transaction on the file of that repository, made if need be and brought to the newest revision."""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        _make(path)
        opened = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        with contextlib.closing(opened) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            _prepare(connection, path, fqrn)
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise StoreFull(f"{path}: {error}") from error


def _make(path: str) -> None:
    """The file, if it is not there: what root writes down for a repository's owner the owner will go on with."""
    flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, flags, 0o644)
        try:
            give_to_directory_owner(descriptor, path)
        finally:
            os.close(descriptor)


def _prepare(connection: sqlite3.Connection, path: str, fqrn: str) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
        for statement in _CREATE:
            connection.execute(statement)
        properties = (("schema", SCHEMA), ("schema_revision", str(SCHEMA_REVISION)), ("repo_name", fqrn))
        connection.executemany("INSERT INTO properties VALUES (?, ?)", properties)
    known = dict(connection.execute("SELECT key, value FROM properties"))
    if known.get("repo_name") != fqrn:
        raise UsageError(f"{path} holds the statistics of {known.get('repo_name')}, not of {fqrn}")
    revision = str(known.get("schema_revision"))
    if not revision.isdigit() or int(revision) > SCHEMA_REVISION:
        raise FormatError(f"{path}: statistics of schema revision {revision}: at most {SCHEMA_REVISION} is known")
    for number in range(int(revision), SCHEMA_REVISION):
        for statement in _UPGRADES.get(number, ()):
            connection.execute(statement)
        connection.execute("REPLACE INTO properties VALUES ('schema_revision', ?)", (str(number + 1),))


def _columns(numbers: type) -> str:
    return ", ".join(f"{field.name} INTEGER" for field in dataclasses.fields(numbers))


_TIMES = "start_time TEXT, finish_time TEXT"
_CREATE = (
    "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key))",
    "CREATE TABLE publish_statistics "
    f"(publish_id INTEGER PRIMARY KEY, {_TIMES}, {_columns(PublishNumbers)}, success INTEGER)",
    f"CREATE TABLE gc_statistics (gc_id INTEGER PRIMARY KEY, {_TIMES}, {_columns(GcNumbers)}, success INTEGER)",
)
# What brings a file of the original's one revision up.
_UPGRADES = {
    1: (
        "ALTER TABLE publish_statistics RENAME COLUMN finished_time TO finish_time",
        "ALTER TABLE publish_statistics RENAME COLUMN duplicated_files TO chunks_duplicated",
        *(
            f"ALTER TABLE publish_statistics ADD {column} INTEGER"
            for column in (
                "revision",
                "chunks_added",
                "symlinks_added",
                "symlinks_removed",
                "symlinks_changed",
                "catalogs_added",
                "sz_catalog_bytes_uploaded",
            )
        ),
        "ALTER TABLE gc_statistics RENAME COLUMN finished_time TO finish_time",
    ),
    2: (
        "ALTER TABLE publish_statistics ADD success INTEGER",
        "ALTER TABLE gc_statistics ADD success INTEGER",
    ),
    3: ("ALTER TABLE gc_statistics ADD n_duplicate_delete_requests INTEGER",),
}
